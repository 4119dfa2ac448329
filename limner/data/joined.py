"""Several sources as one; where a picture comes from is its style."""

from __future__ import annotations

from collections.abc import Sequence
from typing import BinaryIO

import torch
from torch import Tensor

from limner.core.errors import DataError
from limner.data.source import Source
from limner.data.unreadable import Unreadable
from limner.data.views import Views


class JoinedSource(Source):
    """The pictures of several sources, one source after the other.

    Classes of the same name are one class. Every source is a style: sets that draw the same things
    differently teach what a style is. Keys begin with the style, so a thing that is held out in one
    style may be learned in another.

    Args:
        parts: the sources; their names are the styles.

    Raises:
        DataError: two sources have the same name.
    """

    def __init__(self, parts: Sequence[Source]) -> None:
        self.parts = tuple(parts)
        styles = tuple(part.name for part in parts)
        if len(set(styles)) < len(styles):
            raise DataError(f"sources that are joined need different names, not {list(styles)}")
        classes = tuple(dict.fromkeys(name for part in parts for name in part.classes))
        numbers = [torch.tensor([classes.index(name) for name in part.classes]) for part in parts]
        labels = [number[part.labels] for number, part in zip(numbers, parts, strict=True)]
        keys = [f"{part.name}/{key}" for part in parts for key in part.keys]
        super().__init__("+".join(styles), classes, keys, torch.cat(labels))
        sizes = torch.tensor([len(part) for part in parts])
        self.styles = styles
        self.length = self.parts[0].length
        self.style = torch.arange(len(parts)).repeat_interleave(sizes)
        self._first = (sizes.cumsum(0) - sizes).tolist()

    def open(self, index: int) -> BinaryIO:
        part, inside = self._find(index)
        return part.open(inside)

    def seen(self, index: int, views: Views, rng: torch.Generator) -> Tensor | Unreadable:
        part, inside = self._find(index)
        return part.seen(inside, views, rng)

    def stamp(self, index: int) -> str:
        part, inside = self._find(index)
        return part.stamp(inside)

    def caption(self, index: int) -> str:
        part, inside = self._find(index)
        return part.caption(inside)

    def _find(self, index: int) -> tuple[Source, int]:
        """Return the source of a picture, and its place there."""
        style = int(self.style[index])
        return self.parts[style], index - self._first[style]
