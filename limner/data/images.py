"""Encoded pictures to PIL images, and PIL images to tensors."""

from __future__ import annotations

import struct
import zlib
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from limner.core.errors import DataError
from limner.data.unreadable import Unreadable

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
WHITE = (255, 255, 255)

# Whatever the suffix says, no other decoder is tried: some of Pillow's start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

# What Pillow's decoders raise on files that are cut off, damaged or no pictures at all.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error)


def decode(file: BinaryIO, name: str) -> Image.Image | Unreadable:
    """Decode a picture as upright RGB; of animations the first frame counts.

    Args:
        file: the encoded picture.
        name: what messages call it.

    Returns:
        The picture, or why it cannot be read.

    Raises:
        DataError: it claims more pixels than Pillow's safety limit.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            if limit is not None and opened.width * opened.height > limit:
                raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
            return to_rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise DataError(
            f"picture {name!r} is too large to be safe ({error}): make it smaller than "
            f"{limit} pixels or remove it"
        ) from error
    except UnidentifiedImageError:
        return Unreadable("no picture in a format that is read")
    except _BROKEN as error:
        return Unreadable(str(error) or type(error).__name__)


def to_rgb(picture: Image.Image, background: tuple[int, int, int] = WHITE) -> Image.Image:
    """Any mode as 8-bit RGB: deep grey is scaled, not clipped; the background shows through."""
    if picture.mode.startswith("I"):
        deep = np.asarray(picture).astype(np.float64)
        picture = Image.fromarray(np.rint(deep.clip(0, 65535) / 257).astype(np.uint8))
    if not picture.has_transparency_data:
        return picture.convert("RGB")
    drawing = picture.convert("RGBA")
    flat = Image.new("RGB", drawing.size, background)
    flat.paste(drawing, mask=drawing.getchannel("A"))
    return flat


def to_square(picture: Image.Image, size: int) -> Image.Image:
    """The centre square of a picture, resized to size x size."""
    return ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS)


def to_levels(picture: Image.Image) -> Tensor:
    """An RGB picture as uint8 [3, H, W]."""
    return torch.from_numpy(np.array(picture)).permute(2, 0, 1).contiguous()


def to_float(levels: Tensor) -> Tensor:
    """Pictures of uint8 levels, of any shape, as float32 in [-1, 1]."""
    return levels.to(torch.float32) / 127.5 - 1


def to_pixels(picture: Image.Image) -> Tensor:
    """A picture as float32 [3, H, W] in [-1, 1]."""
    return to_float(to_levels(to_rgb(picture)))


def to_mask(picture: Image.Image) -> Tensor:
    """A black and white picture as bool [H, W]: True where it is brighter than mid-grey."""
    return torch.from_numpy(np.array(to_rgb(picture).convert("L"))) > 127
