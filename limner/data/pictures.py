"""A set of labelled pictures held in memory."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.data.images import to_float
from limner.data.split import held_out_mask, renumber


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures with labels and captions; every picture has a key that never changes.

    Sets made from one another share memory: treat the tensors as read-only.

    Attributes:
        pixels: uint8 [N, 3, H, W], or [N, T, 3, H, W] of clips.
        labels: int64 [N], indices into `classes`.
        classes: names of the classes.
        captions: N texts.
        keys: N names that are the same on every machine; they decide the split.
        skipped: files that could not be read when the set was loaded, each with the reason.

    Raises:
        DataError: the fields do not fit each other.
    """

    pixels: Tensor
    labels: Tensor
    classes: tuple[str, ...]
    captions: tuple[str, ...]
    keys: tuple[str, ...]
    skipped: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        count = len(self.keys)
        shape = self.pixels.shape
        if self.pixels.dtype != torch.uint8 or len(shape) not in (4, 5) or shape[-3] != 3:
            kind = f"{self.pixels.dtype} {list(shape)}"
            raise DataError(f"pixels must be uint8 [N, 3, H, W] or [N, T, 3, H, W], not {kind}")
        if self.labels.dtype != torch.int64 or self.labels.shape != (count,):
            kind = f"{self.labels.dtype} {list(self.labels.shape)}"
            raise DataError(f"labels must be int64 [{count}], one a key, not {kind}")
        if not len(self.pixels) == len(self.captions) == count:
            raise DataError(
                f"{len(self.pixels)} pictures, {len(self.captions)} captions and {count} keys: "
                "there must be as many of each"
            )
        if count and not 0 <= int(self.labels.min()) <= int(self.labels.max()) < len(self.classes):
            raise DataError(f"a label is outside the {len(self.classes)} classes")

    def __len__(self) -> int:
        return len(self.keys)

    def subset(self, index: Tensor | Sequence[int]) -> PictureSet:
        """The pictures at `index` (int64 [n], or bool [N] as a mask), in that order."""
        where = torch.as_tensor(index)
        where = where.nonzero().flatten() if where.dtype == torch.bool else where.to(torch.int64)
        return replace(
            self,
            pixels=self.pixels[where],
            labels=self.labels[where],
            captions=tuple(self.captions[i] for i in where.tolist()),
            keys=tuple(self.keys[i] for i in where.tolist()),
        )

    def only(self, classes: Sequence[str]) -> PictureSet:
        """The pictures of some classes; labels are numbered anew in the order of `classes`.

        Raises:
            DataError: a class is unknown or given twice, or none is given.
        """
        labels = renumber(self.labels, self.classes, classes)
        chosen = self.subset(labels >= 0)
        return replace(chosen, labels=labels[labels >= 0], classes=tuple(classes))

    def split(self, held_out: float = 0.1) -> tuple[PictureSet, PictureSet]:
        """Divide into pictures to train on and pictures held out.

        Each picture's own key decides where it goes, so the split is the same on every machine and
        pictures that join the set later move none of the others.  A share above zero holds out at
        least one picture and leaves at least one to train on.

        Raises:
            ConfigError: `held_out` is not in [0, 1).
            DataError: there are fewer than two pictures to divide.
        """
        out = held_out_mask(self.keys, held_out)
        return self.subset(~out), self.subset(out)

    def to_float(self, index: Tensor | Sequence[int] | slice = slice(None)) -> Tensor:
        """Pictures at `index` as float32 [n, (T,) 3, H, W] in [-1, 1]; all of them by default."""
        where = index if isinstance(index, slice) else torch.as_tensor(index)
        return to_float(self.pixels[where])
