"""Animations of how a picture came about."""

from __future__ import annotations

import os
from pathlib import Path

from limner.core.errors import DataError, check
from limner.core.files import replaced
from limner.show.images import Pictures, to_images

FORMATS = {".gif": "GIF", ".webp": "WEBP"}


def save_animation(
    frames: Pictures, path: str | os.PathLike[str], seconds: float = 4.0, hold: float = 1.5
) -> None:
    """Write an endless GIF or WebP, whole or not at all.

    Args:
        frames: float [T, 1 or 3, H, W] in [-1, 1] or PIL images, all of one size.
        path: ends in .gif or .webp.
        seconds: that all frames take; one is shown for at least 40 ms and at most 500 ms.
        hold: seconds that the last frame stays.

    Raises:
        DataError: there are no frames, they differ in size, or the file cannot be written.
        ConfigError: the name has another ending.
    """
    images = [image.convert("RGB") for image in to_images(frames)]
    suffix = Path(path).suffix.lower()
    check(suffix in FORMATS, "path", str(path), f"a name that ends in {' or '.join(FORMATS)}")
    if not images:
        raise DataError("an animation needs at least one frame")
    if len({image.size for image in images}) > 1:
        raise DataError("the frames of an animation must be of one size")
    each = round(1000 * min(0.5, max(0.04, seconds / len(images))))
    durations = [each] * (len(images) - 1) + [round(1000 * hold)]
    with replaced(path) as temporary:
        images[0].save(
            temporary,
            format=FORMATS[suffix],
            save_all=True,
            append_images=images[1:],
            duration=durations,
            loop=0,
        )
