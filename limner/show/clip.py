"""Clips as files that players show: GIF by Pillow, MP4 by PyAV."""

from __future__ import annotations

import os
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

from PIL import Image

from limner.core.errors import DataError, check, load_extra
from limner.core.files import replaced
from limner.show.animation import save_animation
from limner.show.images import Pictures, to_images

RATE = 8.0  # frames a second
SUFFIXES = (".gif", ".mp4")
QUALITY = "12"  # of H.264, as its constant rate factor: nothing is seen of the losses


def check_clip_file(path: str | os.PathLike[str], rate: float = RATE) -> None:
    """Raise, before anything is drawn, where a clip cannot be written to a file.

    Raises:
        ConfigError: the name has another ending, or a rate that is not accepted.
        MissingExtra: it is an MP4 file, and PyAV is not installed.
    """
    suffix = Path(path).suffix.lower()
    check(suffix in SUFFIXES, "path", str(path), f"a name that ends in {' or '.join(SUFFIXES)}")
    check_rate(rate)
    if suffix == ".mp4":
        _pyav()


def check_rate(rate: float, name: str = "rate") -> None:
    """Raise ConfigError, which calls it by a name, for frames a second that are not accepted."""
    check(0 < rate <= 100, name, rate, "above 0 and at most 100 frames a second")


def save_clip(frames: Pictures, path: str | os.PathLike[str], rate: float = RATE) -> None:
    """Write an endless GIF or an MP4 file, whole or not at all; pixels keep their size.

    Args:
        frames: float [T, 1 or 3, H, W] in [-1, 1] or PIL images, all of one size.
        path: ends in .gif or .mp4.
        rate: frames a second.

    Raises:
        DataError: there are no frames, they differ in size, or the file cannot be written.
        ConfigError: the name has another ending, or a rate that is not accepted.
        MissingExtra: it is an MP4 file, and PyAV is not installed.
    """
    check_clip_file(path, rate)
    images = [image.convert("RGB") for image in to_images(frames)]
    if Path(path).suffix.lower() == ".gif":
        save_animation(images, path, seconds=len(images) / rate, hold=1 / rate)
        return
    if len({image.size for image in images}) != 1:
        raise DataError("a clip needs one frame or more, all of one size")
    with replaced(path) as temporary:
        _write_video(images, temporary, rate)


def _write_video(images: Sequence[Image.Image], path: Path, rate: float) -> None:
    av = _pyav()
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libx264", rate=Fraction(rate).limit_denominator(1000), options={"crf": QUALITY}
        )
        stream.width, stream.height = images[0].size
        # colours at half the resolution, as all players read, need even sides
        odd = stream.width % 2 or stream.height % 2
        stream.pix_fmt = "yuv444p" if odd else "yuv420p"
        for image in images:
            container.mux(stream.encode(av.VideoFrame.from_image(image)))
        container.mux(stream.encode())


def _pyav() -> Any:
    return load_extra("av", "video", "an MP4 file")
