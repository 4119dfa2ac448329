"""Source: labelled pictures that lie somewhere and are decoded when they are asked for."""

from __future__ import annotations

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from typing import BinaryIO

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import DataError
from limner.data.images import decode
from limner.data.pictures import PictureSet
from limner.data.split import held_out_mask, renumber
from limner.data.unreadable import UNREADABLE, SkipList, Unreadable
from limner.data.views import CentreCrop, Views


class Source(ABC):
    """Pictures in a folder, a table, an archive: what they are called, and how one is opened.

    Keys and labels are known at once; captions and pictures are read one by one, so a source may be
    far larger than memory.  It can be pickled for a worker process: it keeps no file open.

    Args:
        name: what messages call the source.
        classes: names of the classes.
        keys: N names that are the same on every machine; they decide the split, and entries that
            share one stay together.
        labels: N indices into `classes`.

    Attributes:
        styles: names of the styles, where pictures are told apart by one.
        style: int64 [N], indices into `styles`; zeros where there are none.
        length: frames of each of its clips; 0: it holds pictures.
    """

    styles: tuple[str, ...] = ()
    length: int = 0

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        keys: Sequence[str],
        labels: Sequence[int] | Tensor,
    ) -> None:
        self.name = name
        self.classes = tuple(classes)
        self.keys = tuple(keys)
        self.labels = torch.as_tensor(labels, dtype=torch.int64)
        self.style = torch.zeros_like(self.labels)

    @abstractmethod
    def open(self, index: int) -> BinaryIO:
        """Open the encoded picture at `index`.

        Raises:
            OSError: it is gone or may not be read.
        """

    @abstractmethod
    def stamp(self, index: int) -> str:
        """Return a text that changes when the picture at `index` does (size and time, say)."""

    @abstractmethod
    def caption(self, index: int) -> str:
        """Return the caption of the picture at `index`."""

    def __len__(self) -> int:
        return len(self.keys)

    def picture(self, index: int) -> Image.Image | Unreadable:
        """Decode the picture at `index` as upright RGB of its own size.

        Raises:
            DataError: the picture is too large to be safe.
        """
        try:
            file = self.open(index)
        except OSError as error:
            return Unreadable(error.strerror or str(error))
        with file:
            return decode(file, f"{self.name}/{self.keys[index]}")

    def seen(self, index: int, views: Views, rng: torch.Generator) -> Tensor | Unreadable:
        """Return the views of the picture at `index`, uint8 [V, 3, size, size].

        Of a clip, every frame is seen alike, and they are [V, T, 3, size, size].

        Raises:
            DataError: the picture is too large to be safe.
        """
        picture = self.picture(index)
        return picture if isinstance(picture, Unreadable) else views(picture, rng)

    def fingerprint(self) -> str:
        """Return a text that changes when a picture is added, removed, renamed or edited."""
        digest = hashlib.sha256()
        for index, key in enumerate(self.keys):
            entry = f"{key}\n{self.stamp(index)}\n"
            digest.update(entry.encode("utf-8", "surrogateescape"))
        return digest.hexdigest()[:32]

    def only(self, classes: Sequence[str]) -> Source:
        """Return the pictures of some classes, labelled in the order of `classes`.

        Raises:
            DataError: a class is unknown or given twice, or none is given.
        """
        labels = renumber(self.labels, self.classes, classes)
        return _Part(self, (labels >= 0).nonzero().flatten(), classes, labels)

    def at(self, index: Sequence[int]) -> Source:
        """Return the pictures at some places, in that order."""
        return _Part(self, torch.tensor(list(index), dtype=torch.int64), self.classes, self.labels)

    def split(self, held_out: float = 0.1) -> tuple[Source, Source]:
        """Divide into pictures to train on and pictures held out, as `PictureSet.split` does.

        Raises:
            ConfigError: `held_out` is not in [0, 1).
            DataError: there are fewer than two pictures to divide.
        """
        out = held_out_mask(self.keys, held_out)
        train, held = (
            _Part(self, mask.nonzero().flatten(), self.classes, self.labels) for mask in (~out, out)
        )
        return train, held


class _Part(Source):
    """Some pictures of another source.

    Args:
        whole: the other source.
        index: int64 [n], which of its pictures.
        classes: names that `labels` point into.
        labels: int64 [N], of all pictures of the other source.
    """

    def __init__(self, whole: Source, index: Tensor, classes: Sequence[str], labels: Tensor):
        keys = [whole.keys[i] for i in index.tolist()]
        super().__init__(whole.name, classes, keys, labels[index])
        self.styles, self.style = whole.styles, whole.style[index]
        self.length = whole.length
        self.whole = whole
        self.index = index

    def open(self, index: int) -> BinaryIO:
        return self.whole.open(int(self.index[index]))

    def seen(self, index: int, views: Views, rng: torch.Generator) -> Tensor | Unreadable:
        return self.whole.seen(int(self.index[index]), views, rng)

    def stamp(self, index: int) -> str:
        return self.whole.stamp(int(self.index[index]))

    def caption(self, index: int) -> str:
        return self.whole.caption(int(self.index[index]))


def collect(source: Source, size: int, unreadable: float = UNREADABLE) -> PictureSet:
    """Read a whole source into memory as size x size pictures or clips, their centre squares.

    Args:
        source: that is read.
        size: height and width in pixels.
        unreadable: share of the pictures that may be unreadable.

    Returns:
        The pictures; those that could not be read are listed in `skipped` and logged.

    Raises:
        DataError: there are none, too many cannot be read, or one is too large to be safe.
        ConfigError: a size or share that is not accepted.
    """
    views, rng = CentreCrop(size), torch.Generator()
    check_some(source)

    def read(index: int) -> Tensor | Unreadable:
        seen = source.seen(index, views, rng)
        return seen if isinstance(seen, Unreadable) else seen[0]

    good: dict[int, Tensor] = {}
    skipped = SkipList(source.name, len(source), unreadable)
    with decoders() as pool:
        for index, result in enumerate(pool.map(read, range(len(source)))):
            if isinstance(result, Unreadable):
                skipped.add(source.keys[index], result)
            else:
                good[index] = result
    skipped.report()
    return PictureSet(
        pixels=torch.stack(list(good.values())),
        labels=source.labels[list(good)],
        classes=source.classes,
        captions=tuple(source.caption(index) for index in good),
        keys=tuple(source.keys[index] for index in good),
        skipped=skipped.lines,
    )


def check_some(source: Source) -> None:
    """Raise `DataError` unless a source has pictures."""
    if not len(source):
        raise DataError(f"{source.name!r} has no pictures of what is asked for")


def decoders() -> ThreadPoolExecutor:
    """Threads for decoding: Pillow lets other threads run while it works."""
    return ThreadPoolExecutor(min(8, os.cpu_count() or 1))


def stamp_of(file: Path) -> str:
    """Size and time of change of a file, as text; "missing" if it is gone."""
    try:
        status = file.stat()
    except OSError:
        return "missing"
    return f"{status.st_size} {status.st_mtime_ns}"


def in_words(key: str) -> str:
    """The file name at the end of a key, without its suffix, as words."""
    return " ".join(PurePosixPath(key).stem.replace("_", " ").replace("-", " ").split())
