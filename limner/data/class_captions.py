"""Pictures whose captions are the names of their classes."""

from __future__ import annotations

from typing import BinaryIO

import torch
from torch import Tensor

from limner.data.source import Source
from limner.data.unreadable import Unreadable
from limner.data.views import Views


class ClassCaptions(Source):
    """The pictures of another source, each captioned by the name of its class.

    So a generator that reads captions is told as much of a picture as one that is asked by class.

    Args:
        whole: the other source.
    """

    def __init__(self, whole: Source) -> None:
        super().__init__(whole.name, whole.classes, whole.keys, whole.labels)
        self.styles, self.style, self.length = whole.styles, whole.style, whole.length
        self.whole = whole

    def open(self, index: int) -> BinaryIO:
        return self.whole.open(index)

    def seen(self, index: int, views: Views, rng: torch.Generator) -> Tensor | Unreadable:
        return self.whole.seen(index, views, rng)

    def stamp(self, index: int) -> str:
        return self.whole.stamp(index)

    def caption(self, index: int) -> str:
        return self.classes[int(self.labels[index])]
