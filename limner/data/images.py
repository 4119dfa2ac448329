"""PIL images to tensors."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image
from torch import Tensor


def to_rgb(picture: Image.Image) -> Image.Image:
    """Any mode as 8-bit RGB: deep grey is scaled, not clipped, and transparent becomes white."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray(np.rint(deep.clip(0, 65535) / 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    drawing = picture.convert("RGBA")
    flat = Image.new("RGB", drawing.size, "white")
    flat.paste(drawing, mask=drawing.getchannel("A"))
    return flat


def to_pixels(picture: Image.Image) -> Tensor:
    """A picture as float32 [3, H, W] in [-1, 1]."""
    levels = torch.from_numpy(np.array(to_rgb(picture)))
    return levels.permute(2, 0, 1).float() / 127.5 - 1


def to_mask(picture: Image.Image) -> Tensor:
    """A black and white picture as bool [H, W]: True where it is brighter than mid-grey."""
    return torch.from_numpy(np.array(to_rgb(picture).convert("L"))) > 127
