"""Encoded pictures as the world sends them: all that Pillow cannot write itself is put together."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

GREY, RGB, PALETTE, GREY_ALPHA, RGBA = 0, 2, 3, 4, 6
"""Colour types of PNG."""


def chunk(kind: bytes, data: bytes) -> bytes:
    """One chunk of a PNG file."""
    check = struct.pack(">I", zlib.crc32(kind + data))
    return struct.pack(">I", len(data)) + kind + data + check


def png(
    rows: np.ndarray, depth: int, colour: int, *chunks: tuple[bytes, bytes], side: int | None = None
) -> bytes:
    """A PNG file.

    Args:
        rows: [H, W, ...] of depth 8 or 16, or uint8 [H, bytes a row] of a lower depth.
        depth: bits a channel.
        colour: a colour type.
        chunks: that stand before the pixels.
        side: height and width that the header claims; None: those of the rows.
    """
    height, width = rows.shape[:2] if depth >= 8 else (len(rows), rows.shape[1] * 8 // depth)
    wide = rows.astype(">u2") if depth == 16 else rows.astype(np.uint8)
    lines = b"".join(b"\0" + row.tobytes() for row in wide)
    header = struct.pack(">IIBBBBB", side or width, side or height, depth, colour, 0, 0, 0)
    parts = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(lines)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*part) for part in parts)


def bomb(side: int) -> bytes:
    """A tiny PNG whose header claims a huge picture."""
    return png(np.zeros((8, 8, 3)), 8, RGB, side=side)


def save(picture: Image.Image, form: str, **options: Any) -> bytes:
    """A file as Pillow writes it."""
    file = io.BytesIO()
    picture.save(file, format=form, **options)
    return file.getvalue()


def noise(width: int, height: int, seed: int = 0) -> Image.Image:
    """An RGB picture in which every pixel is its own."""
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(levels)


def exif(orientation: int, *more: bytes) -> bytes:
    """EXIF data with an orientation, and further entries of 12 bytes each."""
    entries = [struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0), *more]
    table = struct.pack("<H", len(entries)) + b"".join(entries) + struct.pack("<I", 0)
    return b"Exif\0\0II*\0" + struct.pack("<I", 8) + table
