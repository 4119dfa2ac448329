"""Maps cut into patches, one token a patch; the order of numbers inside a token is stated."""

from __future__ import annotations

from torch import Tensor
from torch.nn import functional


def patchify(maps: Tensor, size: int, channels_last: bool = False) -> Tensor:
    """Return raster tokens of a map, each ordered channel, row, column (as MAR has it).

    Args:
        maps: float [B, C, h size, w size].
        size: side of a patch.
        channels_last: ordered row, column, channel instead (as ACDiT has it).

    Returns:
        float [B, h w, C size size].
    """
    tokens = functional.pixel_unshuffle(maps, size).flatten(2).transpose(1, 2)
    if channels_last:
        tokens = tokens.unflatten(2, (maps.shape[1], -1)).transpose(2, 3).flatten(2)
    return tokens


def unpatchify(tokens: Tensor, rows: int, columns: int, size: int) -> Tensor:
    """Undo `patchify`: return float [B, C, rows size, columns size]."""
    maps = tokens.transpose(1, 2).unflatten(2, (rows, columns))
    return functional.pixel_shuffle(maps, size)
