"""Fixed vectors of places: sines, then cosines, of ever slower waves.

Source: `get_{1d,2d,3d}_sincos_pos_embed` in NAR-videos/models/embed.py of ThisisBillhe/NAR, which
has them from MAE.
"""

from __future__ import annotations

import torch
from torch import Tensor


def line_places(count: int, width: int) -> Tensor:
    """Return the vectors of places 0 .. count - 1, float64 [count, width].

    Args:
        width: even; wave k of width / 2 has the frequency 10000^(-2k / width).
    """
    half = width // 2
    frequency = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
    angle = torch.arange(count, dtype=torch.float64).unsqueeze(1) * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def volume_places(frames: int, rows: int, columns: int, width: int) -> Tensor:
    """Return the vectors of the places of a clip in raster order, float64 [N, width].

    The frame's vector is added to that of row and column.

    Args:
        width: a multiple of 4.
    """
    plane = plane_places(rows, columns, width)
    return (line_places(frames, width).unsqueeze(1) + plane).flatten(0, 1)


def plane_places(rows: int, columns: int, width: int) -> Tensor:
    """Return the vectors of the places of a picture in raster order, float64 [N, width].

    The first half of the channels tells the column, the second the row.

    Args:
        width: a multiple of 4.
    """
    across = line_places(columns, width // 2).expand(rows, -1, -1)
    down = line_places(rows, width // 2).unsqueeze(1).expand(-1, columns, -1)
    return torch.cat([across, down], dim=2).flatten(0, 1)
