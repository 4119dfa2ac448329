"""Pictures as tensors to pictures as PIL images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import DataError

Pictures = Tensor | Sequence[Image.Image]
"""float [B, 1 or 3, H, W] in [-1, 1], clips [B, T, 1 or 3, H, W], or PIL images."""


def to_images(pictures: Pictures) -> list[Image.Image]:
    """Return pictures as PIL images; float [B, 1 or 3, H, W] in [-1, 1] becomes grey or RGB.

    Of a clip, float [T, 1 or 3, H, W], the picture is its frames in a row.

    Raises:
        DataError: a tensor of another shape.
    """
    if not isinstance(pictures, Tensor):
        return list(pictures)
    if pictures.dim() not in (4, 5) or pictures.shape[-3] not in (1, 3):
        raise DataError(
            f"pictures of shape {list(pictures.shape)} cannot be shown: "
            "they must be [B, 1 or 3, H, W] or [B, T, 1 or 3, H, W]"
        )
    if pictures.dim() == 5:
        pictures = in_a_row(pictures)
    levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    arrays = levels.movedim(1, -1).cpu().numpy()
    return [
        Image.fromarray(np.ascontiguousarray(a.squeeze(-1) if a.shape[-1] == 1 else a))
        for a in arrays
    ]


def in_a_row(clips: Tensor) -> Tensor:
    """Return clips [B, T, C, H, W] as pictures of all frames in a row, [B, C, H, T W]."""
    return clips.movedim(1, 3).flatten(3, 4)


def out_of_a_row(pictures: Tensor, frames: int) -> Tensor:
    """Return the clips [B, T, C, H, W] of which `in_a_row` made pictures [B, C, H, T W]."""
    return pictures.unflatten(3, (frames, -1)).movedim(3, 1)
