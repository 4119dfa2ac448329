"""Moving drawings: clips that are made as they are asked for, of the packaged drawings.

A drawing moves over a plain background and bounces off the borders, as the digits of moving MNIST
do (Srivastava et al., "Unsupervised learning of video representations using LSTMs",
arXiv:1502.04681), in colour and with its place known at every frame.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import DataError, unknown
from limner.core.seeds import seeded
from limner.data.clip_source import ClipSource, Window
from limner.data.packaged import PackagedSource, list_packaged
from limner.data.unreadable import Unreadable

PREFIX = "moving-"
SIDE = 64  # pixels of a frame
SMALLEST, LARGEST = 0.4, 0.6  # of drawings, as shares of a frame
SLOWEST, FASTEST = 0.03, 0.09  # a frame, as shares of its side
COPIES = 6  # clips of each drawing
COLOURS = ("white", "#f9d5d3", "#fbe7c6", "#d9ead3", "#cfe2f3", "#d9d2e9", "#444a54", "#1f3b57")


def list_moving() -> tuple[str, ...]:
    """Names of the packaged sets of clips."""
    return tuple(f"{PREFIX}{name}" for name in list_packaged())


class MovingDrawings(ClipSource):
    """Six clips of every drawing of a packaged set; one is a function of its number and the seed.

    Clips of one drawing share a key: drawings that are held out are never learned from.

    Args:
        name: one of `list_moving()`.
        window: which frames make a clip; drawings may move for ever.
        seed: of places, motions and colours.

    Raises:
        DataError: an unknown name.
    """

    def __init__(self, name: str, window: Window, seed: int = 0) -> None:
        if name not in list_moving():
            raise unknown("packaged set of clips", name, list_moving(), DataError)
        self.pack = name.removeprefix(PREFIX)
        self.seed = seed
        drawings = _drawings(self.pack)
        keys, labels = drawings.keys * COPIES, drawings.labels.repeat(COPIES)
        super().__init__(name, drawings.classes, keys, labels, window)

    def place(self, index: int) -> Tensor:
        """Return where the drawing's top left corner is, in shares of a frame, float [T, 2].

        Rows, then columns.
        """
        _, start, step, room = self._motion(index)
        time = torch.tensor(self.window.of(0), dtype=torch.float64)
        # straight on through mirror images of the frame: a walk that is folded
        walked = (start + time[:, None] * step) % (2 * room)
        return torch.where(walked > room, 2 * room - walked, walked)

    def frames(self, index: int) -> list[Image.Image] | Unreadable:
        side, *_ = self._motion(index)
        drawing = _drawing(self.pack, index % (len(self) // COPIES))
        drawing = drawing.resize((side, side), Image.Resampling.LANCZOS)
        background = self._background(index)
        made = []
        for top, left in (self.place(index) * SIDE).round().int().tolist():
            frame = background.copy()
            frame.paste(drawing, (left, top), drawing)
            made.append(frame)
        return made

    def stamp(self, index: int) -> str:
        return f"{_drawings(self.pack).stamp(index % (len(self) // COPIES))} {self._told}"

    def caption(self, index: int) -> str:
        return _drawings(self.pack).caption(index % (len(self) // COPIES))

    @property
    def _told(self) -> str:
        """What decides clips, beside the drawing."""
        made = (SIDE, SMALLEST, LARGEST, SLOWEST, FASTEST, COLOURS)
        return f"{self.window} {self.seed} {made}"

    def _motion(self, index: int) -> tuple[int, Tensor, Tensor, Tensor]:
        """Return the side in pixels, and start, step a frame and room in shares: float64 [2]."""
        rng = seeded(self.seed, "moving drawings", index)
        size, way, speed, *start = torch.rand(5, generator=rng, dtype=torch.float64)
        side = int((SMALLEST + size * (LARGEST - SMALLEST)) * SIDE)
        room = torch.full((2,), 1 - side / SIDE, dtype=torch.float64)
        angle = 2 * torch.pi * way
        step = torch.stack([angle.sin(), angle.cos()]) * (SLOWEST + speed * (FASTEST - SLOWEST))
        return side, torch.stack(start) * room, step, room

    def _background(self, index: int) -> Image.Image:
        rng = seeded(self.seed, "background", index)
        chosen = int(torch.randint(len(COLOURS), (), generator=rng))
        return Image.new("RGB", (SIDE, SIDE), COLOURS[chosen])


@lru_cache(maxsize=4)
def _drawings(pack: str) -> PackagedSource:
    return PackagedSource(pack)


@lru_cache(maxsize=4096)
def _drawing(pack: str, index: int) -> Image.Image:
    with Image.open(_drawings(pack).open(index)) as opened:
        return opened.convert("RGBA")
