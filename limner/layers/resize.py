"""Bilinear resizing, in the three ways that published feature networks resize their pictures.

They differ by more than most models do: distances between features compare only where both sides
were resized alike.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check

Resize = Literal["tf1", "halfpixel", "antialias"]
"""tf1: pixel i of the result lies at i * input / output, as in TensorFlow 1 (the published FID).
halfpixel: the pictures' corners lie over each other. antialias: as halfpixel, and averages where
the result is smaller."""


def resize(pictures: Tensor, size: tuple[int, int], kind: Resize = "tf1") -> Tensor:
    """Return pictures of another size, of the same range of values.

    Args:
        pictures: [B, C, H, W], of any type.
        size: height and width.
        kind: see `Resize`.

    Returns:
        float32 [B, C, height, width], not rounded.
    """
    check(min(size) > 0, "size", size, "a positive height and width")
    check(kind in ("tf1", "halfpixel", "antialias"), "kind", kind, "tf1, halfpixel or antialias")
    pixels = pictures.float()
    if kind == "tf1":
        return _along(_along(pixels, size[0], dim=2), size[1], dim=3)
    return functional.interpolate(
        pixels, size, mode="bilinear", align_corners=False, antialias=kind == "antialias"
    )


def _along(pixels: Tensor, size: int, dim: int) -> Tensor:
    length = pixels.shape[dim]
    places = torch.arange(size, dtype=torch.float64) * (length / size)  # not every device has it
    before = places.long().clamp(max=length - 1)  # rounding may reach the end
    share = (places - before).to(pixels.dtype).to(pixels.device)
    before = before.to(pixels.device)
    after = (before + 1).clamp(max=length - 1)
    share = share.unsqueeze(1) if dim == 2 else share
    return torch.lerp(pixels.index_select(dim, before), pixels.index_select(dim, after), share)
