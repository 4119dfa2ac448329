"""Pictures as tensors to pictures as PIL images."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import DataError

Pictures = Tensor | Sequence[Image.Image]
"""float [B, 1 or 3, H, W] in [-1, 1], or PIL images."""


def to_images(pictures: Pictures) -> list[Image.Image]:
    """Return pictures as PIL images; float [B, 1 or 3, H, W] in [-1, 1] becomes grey or RGB.

    Raises:
        DataError: a tensor of another shape.
    """
    if not isinstance(pictures, Tensor):
        return list(pictures)
    if pictures.dim() != 4 or pictures.shape[1] not in (1, 3):
        raise DataError(
            f"pictures of shape {list(pictures.shape)} cannot be shown: "
            "they must be [B, 1 or 3, H, W]"
        )
    levels = ((pictures.float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    arrays = levels.movedim(1, -1).cpu().numpy()
    return [
        Image.fromarray(np.ascontiguousarray(a.squeeze(-1) if a.shape[-1] == 1 else a))
        for a in arrays
    ]
