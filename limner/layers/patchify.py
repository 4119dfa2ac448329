"""Maps cut into patches, one token a patch; the order of numbers inside a token is stated."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def patchify(maps: Tensor, size: int) -> Tensor:
    """Return raster tokens of a map, each ordered channel, row, column (as MAR has it).

    Args:
        maps: float [B, C, h size, w size].
        size: side of a patch.

    Returns:
        float [B, h w, C size size].
    """
    return functional.pixel_unshuffle(maps, size).flatten(2).transpose(1, 2)


def unpatchify(tokens: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """Undo `patchify`: return float [B, C, rows size, columns size]."""
    maps = tokens.transpose(1, 2).unflatten(2, (rows, columns))
    return functional.pixel_shuffle(maps, size)
