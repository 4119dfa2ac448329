"""Sets of pictures or clips to be measured, whatever they lie in; read batch by batch."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import DataError, check
from limner.core.seeds import seeded
from limner.data.images import to_levels
from limner.data.source import Source, check_some, decoders
from limner.data.unreadable import SkipList, Unreadable
from limner.data.views import CentreCrop, Views
from limner.metrics.references import Reference


class Pictures(ABC):
    """Pictures of one size, or clips of one size and length.

    Args:
        name: what messages and reports call the set.
        count: pictures in it; those that turn out to be unreadable are counted too.
        size: height and width in pixels.
        frames: T of clips; 0: these are pictures.
    """

    def __init__(self, name: str, count: int, size: tuple[int, int], frames: int = 0) -> None:
        self.name = name
        self.count = count
        self.size = size
        self.frames = frames

    def __len__(self) -> int:
        return self.count

    @abstractmethod
    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        """Yield all pictures in turn, uint8 [b, 3, H, W], or clips, [b, T, 3, H, W].

        Raises:
            DataError: too many cannot be read, or one has another size.
        """


class SourcePictures(Pictures):
    """Pictures, or clips, of a source.

    Args:
        source: at least one picture.
        side: of the squares that pictures are cropped and resized to, as `CentreCrop` does; None:
            they are taken as they are, and must all have one size.
        name: of the set; None: that of the source.

    Raises:
        DataError: the source has no pictures.
        ConfigError: a side that is not accepted.
    """

    def __init__(self, source: Source, side: int | None = None, name: str | None = None) -> None:
        check_some(source)
        check(side is None or side >= 1, "size", side, "at least 1")
        self.source = source
        self.side = side
        size = _first_size(source) if side is None else (side, side)
        super().__init__(name or source.name, len(source), size, source.length)

    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        skipped = SkipList(self.name, self.count)
        with decoders() as pool:
            for index in torch.arange(self.count).split(batch):
                good = []
                for place, levels in zip(index.tolist(), pool.map(self._read, index.tolist())):
                    if isinstance(levels, Unreadable):
                        skipped.add(self.source.keys[place], levels)
                    else:
                        good.append(levels)
                if good:
                    yield torch.stack(good)
        skipped.report()

    def _read(self, index: int) -> Tensor | Unreadable:
        key = f"{self.source.name}/{self.source.keys[index]}"
        views: Views = _AsItIs(self.size, key) if self.side is None else CentreCrop(self.side)
        seen = self.source.seen(index, views, torch.Generator())
        return seen if isinstance(seen, Unreadable) else seen[0]


class _AsItIs:
    """A view of a picture that must have the size of others."""

    views = 1

    def __init__(self, size: tuple[int, int], key: str) -> None:
        self.wanted = size
        self.size = size[0]
        self.key = key

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        if (picture.height, picture.width) != self.wanted:
            raise DataError(
                f"{self.key} is a picture of {picture.height}x{picture.width}, and others are of "
                f"{in_words(self.wanted)}: all must have one size; give --size to have them "
                "cropped and resized"
            )
        return to_levels(picture)[None]


class ArchivePictures(Pictures):
    """Pictures of an `.npz` file as ADM's evaluator reads it: `arr_0`, uint8 [N, H, W, 3].

    Args:
        reference: the file.

    Raises:
        DataError: it holds no pictures.
    """

    def __init__(self, reference: Reference) -> None:
        if reference.shape is None or reference.shape[0] == 0:
            raise DataError(
                f"{reference.path} holds no pictures (arr_0): statistics alone are for --reference"
            )
        count, height, width, _ = reference.shape
        super().__init__(str(reference.path), count, (height, width))
        self.reference = reference

    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        return self.reference.pictures(batch)


def some(source: Source, most: int, seed: int = 0) -> Source:
    """Return at most so many pictures of a source, chosen at random by a seed."""
    if len(source) <= most:
        return source
    chosen = torch.randperm(len(source), generator=seeded(seed, "evaluation set"))[:most]
    return source.at(chosen.sort().values.tolist())


def check_same_size(real: Pictures, size: tuple[int, int], frames: int = 0) -> None:
    """Raise DataError unless real pictures, or clips, are of the size of those to be measured."""
    if real.frames != frames:
        held, asked = (f"clips of {n} frames" if n else "pictures" for n in (real.frames, frames))
        raise DataError(f"{real.name} holds {held}, and {asked} are to be measured")
    if real.size != size:
        raise DataError(
            f"{real.name} holds pictures of {in_words(real.size)}, and {in_words(size)} ones are "
            "to be measured: both must have the same size (--size crops and resizes real pictures "
            "that are no .npz file)"
        )


def in_words(size: tuple[int, int]) -> str:
    """Return height and width as "32x32"."""
    return f"{size[0]}x{size[1]}"


def _first_size(source: Source) -> tuple[int, int]:
    skipped = SkipList(source.name, len(source))
    for index in range(len(source)):
        picture = source.picture(index)
        if not isinstance(picture, Unreadable):
            return picture.height, picture.width
        skipped.add(source.keys[index], picture)
    skipped.report()  # which raises: none is left
    raise AssertionError
