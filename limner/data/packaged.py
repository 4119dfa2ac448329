"""Pictures that come with the package, so that everything works without a download."""

from __future__ import annotations

import io
import itertools
from collections.abc import Sequence
from functools import lru_cache
from importlib import resources

import numpy as np
import torch
from PIL import Image

from limner.core.errors import DataError, check, unknown
from limner.data.pictures import PictureSet

PACKS = resources.files("limner.data") / "packs"
WHITE = (255, 255, 255)


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
        size: height and width in pixels; the packaged drawings have 72.
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
    whole = _load(name, size, colour)
    return whole if classes is None else whole.only(classes)


@lru_cache(maxsize=4)
def _load(name: str, size: int, background: tuple[int, ...]) -> PictureSet:
    """Decode a whole pack; see `tools/pack_twemoji.py` for what it holds."""
    with (PACKS / f"{name}.npz").open("rb") as file, np.load(file, allow_pickle=False) as pack:
        encoded, offsets = pack["encoded"].tobytes(), pack["offsets"].tolist()
        labels = torch.from_numpy(pack["labels"].astype(np.int64))
        classes, captions, codes = (
            tuple(pack[field].tolist()) for field in ("classes", "captions", "codes")
        )
    pixels = np.empty((len(codes), size, size, 3), dtype=np.uint8)
    for i, (begin, end) in enumerate(itertools.pairwise(offsets)):
        pixels[i] = _decode(encoded[begin:end], size, background)
    channels_first = torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()
    return PictureSet(channels_first, labels, classes, captions, codes)


def _decode(encoded: bytes, size: int, background: tuple[int, ...]) -> np.ndarray:
    """One transparent PNG as uint8 [size, size, 3] over the background."""
    with Image.open(io.BytesIO(encoded)) as file:
        drawing = file.convert("RGBA")
    picture = Image.new("RGB", drawing.size, background)
    picture.paste(drawing, mask=drawing.getchannel("A"))
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS))
