"""Clips that lie somewhere: so many frames, each so many after the one before."""

from __future__ import annotations

import io
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import BinaryIO

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import check
from limner.data.source import Source
from limner.data.unreadable import Unreadable
from limner.data.views import Views


@dataclass(frozen=True)
class Window:
    """Which frames make a clip.

    Args:
        frames: T.
        stride: 1: successive ones; 2: every other one; ...
    """

    frames: int
    stride: int = 1

    def __post_init__(self) -> None:
        check(self.frames >= 1, "frames", self.frames, "at least 1")
        check(self.stride >= 1, "stride", self.stride, "at least 1")

    @property
    def span(self) -> int:
        """Frames from the first to the last, those between counted."""
        return (self.frames - 1) * self.stride + 1

    def of(self, begin: int) -> range:
        """Return which frames a clip has that begins with frame `begin`."""
        return range(begin, begin + self.span, self.stride)


class ClipSource(Source):
    """Base of sources of clips; where a source of pictures is expected, their first frames count.

    Args:
        name: what messages call the source.
        classes: names of the classes.
        keys: N names; clips of one video share one, so that a split keeps them together.
        labels: N indices into `classes`.
        window: which frames make a clip.
    """

    def __init__(
        self,
        name: str,
        classes: Sequence[str],
        keys: Sequence[str],
        labels: Sequence[int] | Tensor,
        window: Window,
    ) -> None:
        super().__init__(name, classes, keys, labels)
        self.window = window
        self.length = window.frames

    @abstractmethod
    def frames(self, index: int) -> list[Image.Image] | Unreadable:
        """Decode the clip at `index` as T upright RGB frames of one size.

        Raises:
            DataError: a frame is too large to be safe.
        """

    def open(self, index: int) -> BinaryIO:
        """Open the first frame, as PNG."""
        frames = self.frames(index)
        if isinstance(frames, Unreadable):
            raise OSError(frames.reason)
        file = io.BytesIO()
        frames[0].save(file, format="PNG")
        file.seek(0)
        return file

    def seen(self, index: int, views: Views, rng: torch.Generator) -> Tensor | Unreadable:
        """Return the views of the clip at `index`, uint8 [V, T, 3, size, size], its frames alike.

        Raises:
            DataError: a frame is too large to be safe.
        """
        frames = self.frames(index)
        if isinstance(frames, Unreadable):
            return frames
        if len({frame.size for frame in frames}) > 1:
            return Unreadable("its frames are of several sizes")
        start, made = rng.get_state(), []
        for frame in frames:
            rng.set_state(start)
            made.append(views(frame, rng))
        return torch.stack(made, dim=1)
