"""Encoded pictures to PIL images, and PIL images to tensors."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO, TypeVar

import numpy as np
import torch
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from torch import Tensor

from limner.core.errors import DataError
from limner.data.unreadable import Unreadable

SUFFIXES = (".png", ".jpg", ".jpeg", ".jfif", ".webp", ".bmp", ".gif")
OTHERS = (".tif", ".tiff", ".heic", ".heif", ".avif", ".jxl", ".jp2", ".svg", ".psd", ".tga")
"""Pictures too, in formats that are not read: convert them first."""

WHITE = (255, 255, 255)
MOST_REPEATED = 100  # moments that one frame of an animation stands for

# Whatever the suffix says, no other decoder is tried: some of Pillow's start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

# What Pillow's decoders raise on files that are cut off, damaged or no pictures at all.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error)

# EXIF orientation -> what turns the picture upright; 1 is upright.
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = tuple(_TURNS[orientation] for orientation in (5, 6, 7, 8))

_Read = TypeVar("_Read")


@dataclass(frozen=True)
class Header:
    """What a picture says of itself before it is decoded.

    Args:
        width: in pixels, when it is upright.
        height: in pixels, when it is upright.
        mode: Pillow's name of its kind of pixels ("RGB", "L", "CMYK", ...).
        animated: there are several frames.
    """

    width: int
    height: int
    mode: str
    animated: bool


def decode(file: BinaryIO, name: str) -> Image.Image | Unreadable:
    """Decode a picture as upright RGB; of animations the first frame counts.

    CMYK is taken as Adobe writes it, inverted, as browsers do; colour profiles are not applied.

    Args:
        file: the encoded picture.
        name: what messages call it.

    Returns:
        The picture, or why it cannot be read.

    Raises:
        DataError: it claims more pixels than Pillow's safety limit.
    """
    return _decoded(file, name, _loaded)


def count_frames(file: BinaryIO) -> int | Unreadable:
    """Return how many frames an animation has, 1 for a still picture; or why it cannot be read.

    All last equally long: one that is shown twice as long as the shortest counts as two, as writers
    store frames once that are the same.
    """
    try:
        with _opened(file) as opened:
            return len(_stored_frames(opened))
    except Image.DecompressionBombError as error:
        return Unreadable(f"too large to be safe ({error})")
    except _BROKEN as error:
        return Unreadable(_reason(error))


def decode_frames(file: BinaryIO, name: str, wanted: range) -> list[Image.Image] | Unreadable:
    """Decode frames of an animation as upright RGB, or of a still picture its only one.

    Args:
        file: the encoded picture.
        name: what messages call it.
        wanted: which frames, as `count_frames` counts them.

    Returns:
        The frames, or why they cannot be read.

    Raises:
        DataError: it claims more pixels than Pillow's safety limit.
    """

    def frames_of(opened: Image.Image) -> list[Image.Image] | Unreadable:
        stored = _stored_frames(opened)
        if wanted and wanted[-1] >= len(stored):
            return Unreadable(f"it ends after {len(stored)} frames")
        frames = []
        for index in wanted:
            opened.seek(stored[index])
            frames.append(_loaded(opened))
        return frames

    return _decoded(file, name, frames_of)


def _stored_frames(opened: Image.Image) -> list[int]:
    """Return which stored frame is shown at each of an animation's moments of equal length."""
    durations = []
    for index in range(getattr(opened, "n_frames", 1)):
        opened.seek(index)
        durations.append(opened.info.get("duration", 0))
    shortest = min((duration for duration in durations if duration > 0), default=1)
    counts = (min(MOST_REPEATED, max(1, round(duration / shortest))) for duration in durations)
    return [index for index, count in enumerate(counts) for _ in range(count)]


def read_header(file: BinaryIO) -> Header | Unreadable:
    """Read what a picture says of itself; damage behind that is not noticed.

    Returns:
        That, or why it cannot be read; a picture that is too large to be safe cannot.
    """
    try:
        with _opened(file) as opened:
            width, height = opened.size
            # EXIF data behind the pixels is left alone: it would have them decoded
            if "exif" in opened.info and _turn(opened) in _SIDEWAYS:
                width, height = height, width
            return Header(width, height, opened.mode, getattr(opened, "is_animated", False))
    except Image.DecompressionBombError as error:
        return Unreadable(f"too large to be safe ({error})")
    except _BROKEN as error:
        return Unreadable(_reason(error))


def _opened(file: BinaryIO) -> Image.Image:
    """Open a picture without decoding it."""
    opened = Image.open(file, formats=_FORMATS)
    limit = Image.MAX_IMAGE_PIXELS
    if limit is not None and opened.width * opened.height > limit:
        raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
    return opened


def _decoded(file: BinaryIO, name: str, read: Callable[[Image.Image], _Read]) -> _Read | Unreadable:
    """Return what is read of a file, or why it cannot be; see `decode`."""
    try:
        with _opened(file) as opened:
            return read(opened)
    except Image.DecompressionBombError as error:
        raise DataError(
            f"picture {name!r} is too large to be safe ({error}): make it smaller than "
            f"{Image.MAX_IMAGE_PIXELS} pixels or remove it"
        ) from error
    except _BROKEN as error:
        return Unreadable(_reason(error))


def _loaded(opened: Image.Image) -> Image.Image:
    opened.load()  # what is cut off is found here, and not while EXIF data is looked for
    return to_rgb(upright(opened))


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "no picture in a format that is read"
    return str(error) or type(error).__name__


def upright(picture: Image.Image) -> Image.Image:
    """A picture turned as its EXIF data says."""
    turn = _turn(picture)
    return picture if turn is None else picture.transpose(turn)


def _turn(picture: Image.Image) -> Image.Transpose | None:
    """What turns a picture upright; damaged EXIF data says nothing."""
    try:
        return _TURNS.get(picture.getexif().get(ExifTags.Base.Orientation, 1))
    except _BROKEN:
        return None


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
