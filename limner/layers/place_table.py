"""A learned table of places that serves maps of any size: averaged over areas to each of them.

Source: `pos_1LC` in models/flexvar.py of jiaosiyu1999/FlexVAR (arXiv:2502.20313).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class PlaceTable(nn.Module):
    """Vectors of the places of a square map, learned from waves on.

    Args:
        width: of a vector; even.
        side: of the map.
    """

    def __init__(self, width: int, side: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(waves(width, side, side))

    def forward(self, size: tuple[int, int]) -> Tensor:
        """Return the vectors of a map's places in raster order, float [rows * columns, width]."""
        return functional.adaptive_avg_pool2d(self.weight, size).flatten(1).T


def waves(width: int, rows: int, columns: int) -> Tensor:
    """Return the initial table, float32 [width, rows, columns].

    Channel 2m is sin(row * w_m) and channel 2m + 1 is cos(column * w_m), w_m = 10000^(-2m / width).
    """
    frequency = torch.exp(torch.arange(0, width, 2) * (-math.log(10000.0) / width))
    sines = (torch.arange(rows) * frequency[:, None]).sin()[:, :, None].expand(-1, -1, columns)
    cosines = (torch.arange(columns) * frequency[:, None]).cos()[:, None].expand(-1, rows, -1)
    return torch.stack([sines, cosines], dim=1).flatten(0, 1)
