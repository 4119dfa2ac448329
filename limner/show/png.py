"""PNG files that carry the settings they were drawn with, as JSON in a text chunk."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from typing import Any

from PIL import Image, PngImagePlugin

from limner.core.errors import DataError
from limner.core.files import replaced

KEY = "limner"
"""Keyword of the iTXt chunk."""


def save_png(
    image: Image.Image, path: str | os.PathLike[str], settings: Mapping[str, Any] | None = None
) -> None:
    """Write a PNG file, whole or not at all.

    Args:
        image: pixels are kept to the bit.
        path: ends in .png.
        settings: JSON values that `read_settings` returns; None: no chunk.

    Raises:
        DataError: the file cannot be written.
    """
    chunks = PngImagePlugin.PngInfo()
    if settings is not None:
        chunks.add_itxt(KEY, json.dumps(settings, ensure_ascii=False))
    with replaced(path) as temporary:
        image.save(temporary, format="PNG", pnginfo=chunks)


def read_settings(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Return the settings that a PNG file carries.

    Raises:
        DataError: the file cannot be read, or carries none.
    """
    try:
        with Image.open(path, formats=("PNG",)) as image:
            text = image.info.get(KEY)
        settings = None if text is None else json.loads(text)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        reason = (error.strerror if isinstance(error, OSError) else None) or "it is no sound PNG"
        raise DataError(f"{path} cannot be read: {reason}") from None
    if not isinstance(settings, dict):
        raise DataError(
            f"{path} carries no settings of limner: it was not drawn by `limner sample`"
        )
    return settings
