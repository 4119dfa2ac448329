"""Pictures that come with the package, so that everything works without a download."""

from __future__ import annotations

import io
import zlib
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image

from limner.core.errors import DataError, check, unknown
from limner.data.images import WHITE, to_levels, to_rgb, to_square
from limner.data.pictures import PictureSet
from limner.data.source import Source

PACKS = resources.files("limner.data") / "packs"


def list_packaged() -> tuple[str, ...]:
    """Names of the packaged sets."""
    return tuple(sorted(p.name[:-4] for p in PACKS.iterdir() if p.name.endswith(".npz")))


def load_packaged(
    name: str = "twemoji",
    size: int = 32,
    classes: Sequence[str] | None = None,
    background: Sequence[int] = WHITE,
) -> PictureSet:
    """Load a packaged set as size x size pictures over a plain background.

    Args:
        name: one of `list_packaged()`.
        size: height and width in pixels; the packaged drawings have 64 or 72.
        classes: only these classes, labelled in this order; all by default.
        background: red, green and blue of what shows through transparent places, 0 to 255.

    Returns:
        The pictures; they stay in memory, and a second call with the same values shares them.

    Raises:
        DataError: an unknown name or class.
        ConfigError: a size or colour that is not accepted.
    """
    if name not in list_packaged():
        raise unknown("packaged set", name, list_packaged(), DataError)
    check(size >= 1, "size", size, "at least 1")
    colour = tuple(background)
    fits = len(colour) == 3 and all(0 <= level <= 255 for level in colour)
    check(fits, "background", background, "three numbers from 0 to 255")
    whole = _load(name, size, (colour[0], colour[1], colour[2]))
    return whole if classes is None else whole.only(classes)


class PackagedSource(Source):
    """A packaged set as a source; see `tools/pack_emoji.py` for what a pack holds.

    Args:
        name: one of `list_packaged()`.

    Raises:
        DataError: an unknown name.
    """

    def __init__(self, name: str = "twemoji") -> None:
        if name not in list_packaged():
            raise unknown("packaged set", name, list_packaged(), DataError)
        with (PACKS / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as pack:
            self._encoded = pack["encoded"].tobytes()
            self._offsets = pack["offsets"].tolist()
            self._captions = pack["captions"].tolist()
            labels = torch.from_numpy(pack["labels"].astype(np.int64))
            super().__init__(name, pack["classes"].tolist(), pack["codes"].tolist(), labels)

    def open(self, index: int) -> BinaryIO:
        begin, end = self._offsets[index : index + 2]
        return io.BytesIO(self._encoded[begin:end])

    def stamp(self, index: int) -> str:
        begin, end = self._offsets[index : index + 2]
        return str(zlib.crc32(self._encoded[begin:end]))

    def caption(self, index: int) -> str:
        return str(self._captions[index])


@lru_cache(maxsize=4)
def _load(name: str, size: int, background: tuple[int, int, int]) -> PictureSet:
    """Decode a whole pack."""
    source = PackagedSource(name)
    pixels = torch.empty(len(source), 3, size, size, dtype=torch.uint8)
    for index in range(len(source)):
        with Image.open(source.open(index)) as drawing:
            pixels[index] = to_levels(to_square(to_rgb(drawing, background), size))
    captions = tuple(source.caption(index) for index in range(len(source)))
    return PictureSet(pixels, source.labels, source.classes, captions, source.keys)
