"""Contact sheets: many pictures on one page."""

from __future__ import annotations

import math
from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont, ImageOps

from limner.core.errors import DataError, check
from limner.show.images import Pictures, to_images

LINE = 14  # pixels of a caption's line
TEXT = 11  # size of its letters


def contact_sheet(
    pictures: Pictures,
    columns: int | None = None,
    captions: Sequence[str] | None = None,
    gap: int = 2,
    background: str = "white",
    zoom: int = 1,
) -> Image.Image:
    """Lay pictures out in rows.

    Args:
        pictures: float [B, 1 or 3, H, W] in [-1, 1] or PIL images, of any sizes.
        columns: None: about as many as rows.
        captions: a text below each picture, cut where it is wider.
        gap: pixels between pictures and around them.
        background: a colour by name or as "#rrggbb".
        zoom: side of the square that each pixel becomes.

    Raises:
        DataError: there are no pictures, or not as many captions.
        ConfigError: fewer than one column, or a zoom below 1.
    """
    images = to_images(pictures)
    if not images:
        raise DataError("a contact sheet needs at least one picture")
    if captions is not None and len(captions) != len(images):
        raise DataError(f"{len(captions)} captions do not fit {len(images)} pictures")
    columns = math.ceil(math.sqrt(len(images))) if columns is None else columns
    check(columns >= 1, "columns", columns, "at least 1")
    columns = min(columns, len(images))
    check(zoom >= 1, "zoom", zoom, "at least 1")
    if zoom > 1:
        images = [ImageOps.scale(image, zoom, Image.Resampling.NEAREST) for image in images]

    width = max(image.width for image in images)
    height = max(image.height for image in images)
    pitch = height + gap + (LINE if captions else 0)
    rows = math.ceil(len(images) / columns)
    page = Image.new("RGB", (gap + columns * (width + gap), gap + rows * pitch), background)
    pen = ImageDraw.Draw(page)
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        left, top = gap + column * (width + gap), gap + row * pitch
        page.paste(image, (left, top))
        if captions:
            _write(pen, captions[index], (left, top + height), width)
    return page


def _write(pen: ImageDraw.ImageDraw, text: str, place: tuple[int, int], width: int) -> None:
    """Write one line of text that is at most `width` pixels wide."""
    font = ImageFont.load_default(TEXT)
    line = " ".join(text.split())
    while line and pen.textlength(line, font) > width:
        line = line[:-2] + "…" if line.endswith("…") else line[:-1] + "…"
        if line == "…":
            return
    pen.text(place, line, fill="black", font=font)
