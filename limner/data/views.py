"""Views: how pictures of any size become square pictures of one size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal, Protocol

import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import check
from limner.data.augment import Augment
from limner.data.images import to_levels, to_square


class Views(Protocol):
    """Makes square pictures of one picture; its `repr` says all that decides them."""

    @property
    def size(self) -> int:
        """Height and width in pixels."""

    @property
    def views(self) -> int:
        """V, how many are made of each picture."""

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        """Return uint8 [V, 3, size, size] of an RGB picture; `rng` makes the random choices."""


@dataclass(frozen=True)
class CentreCrop:
    """The centre square, resized: what `load_pictures` gives.

    Args:
        size: height and width in pixels.
    """

    size: int
    kind: Literal["centre"] = "centre"

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")

    @property
    def views(self) -> int:
        return 1

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        return to_levels(to_square(picture, self.size))[None]


@dataclass(frozen=True)
class RandomCrop:
    """The short side resized to a little more than `size`, then a square anywhere in the picture.

    Source: VAR `utils/data.py` (1.125 and 1.125, no flip), LlamaGen `dataset/augmentation.py`
    (1 to 1.25, flip 0.5); both resize with Lanczos here.

    Args:
        size: height and width in pixels.
        smallest: short side after resizing, at least, as a multiple of `size`.
        largest: the same, at most; all lengths between are equally likely.
        flip: probability that the square is mirrored left to right.
        count: V, squares of each picture.
    """

    size: int
    smallest: float = 1.125
    largest: float = 1.125
    flip: float = 0.0
    count: int = 1
    kind: Literal["random"] = "random"

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")
        check(self.smallest >= 1, "smallest", self.smallest, "at least 1")
        check(self.largest >= self.smallest, "largest", self.largest, "at least `smallest`")
        check(0 <= self.flip <= 1, "flip", self.flip, "between 0 and 1")
        check(self.count >= 1, "count", self.count, "at least 1")

    @property
    def views(self) -> int:
        return self.count

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        return _stack(self._square(picture, rng) for _ in range(self.count))

    def _square(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        least, most = round(self.size * self.smallest), round(self.size * self.largest)
        short = _draw(most - least, rng) + least
        resized = picture.resize(_scaled(picture.size, short), Image.Resampling.LANCZOS)
        left, top = (_draw(side - self.size, rng) for side in resized.size)
        square = to_levels(_square(resized, left, top, self.size))
        mirrored = bool(torch.rand((), generator=rng) < self.flip)
        return square.flip(-1) if mirrored else square


@dataclass(frozen=True)
class TenCrop:
    """The corners and the centre of a slightly larger square, then the same of its mirror image.

    Source: LlamaGen `autoregressive/train/extract_codes_c2i.py`, `--ten-crop`.

    Args:
        size: height and width in pixels.
        crop_range: side of the larger square, as a multiple of `size`.
    """

    size: int
    crop_range: float = 1.1
    kind: Literal["ten"] = "ten"

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")
        check(self.crop_range >= 1, "crop_range", self.crop_range, "at least 1")

    @property
    def views(self) -> int:
        return 10

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        whole = _shrunk_square(picture, int(self.size * self.crop_range))
        end = whole.shape[-1] - self.size
        middle = round(end / 2)
        corners = ((0, 0), (0, end), (end, 0), (end, end), (middle, middle))
        sides = ((image, corner) for image in (whole, whole.flip(-1)) for corner in corners)
        return _stack(
            image[:, top : top + self.size, left : left + self.size] for image, (top, left) in sides
        )


@dataclass(frozen=True)
class CentreAndMirror:
    """The centre square and its mirror image.

    Source: LlamaGen `autoregressive/train/extract_codes_c2i.py`, without `--ten-crop`.

    Args:
        size: height and width in pixels.
    """

    size: int
    kind: Literal["mirror"] = "mirror"

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")

    @property
    def views(self) -> int:
        return 2

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        square = _shrunk_square(picture, self.size)
        return _stack((square, square.flip(-1)))


@dataclass(frozen=True)
class Shifted:
    """The centre square as it is, then moved by some pixels and mirrored at random; see `Augment`.

    Args:
        size: height and width in pixels.
        shift: largest move in pixels, along both axes.
        flip: probability that a moved square is mirrored left to right.
        count: V, the square itself and V - 1 moved ones.
    """

    size: int
    shift: int = 0
    flip: float = 0.0
    count: int = 1
    kind: Literal["shifted"] = "shifted"

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")
        check(self.count >= 1, "count", self.count, "at least 1")
        _ = self.augment

    @property
    def augment(self) -> Augment:
        """How the moved squares come about."""
        return Augment(self.shift, self.flip)

    @property
    def views(self) -> int:
        return self.count

    def __call__(self, picture: Image.Image, rng: torch.Generator) -> Tensor:
        square = to_levels(to_square(picture, self.size))[None]
        moved = self.augment(square.repeat(self.count - 1, 1, 1, 1), rng)
        return torch.cat([square, moved])


AnyViews = CentreCrop | RandomCrop | TenCrop | CentreAndMirror | Shifted
"""All of them, told apart by their `kind`."""


def _shrunk_square(picture: Image.Image, size: int) -> Tensor:
    """The centre square as uint8 [3, size, size], by halving while possible, then bicubic.

    This is ADM's way to resize, by which LlamaGen's and MAR's published models see pictures.
    """
    while min(picture.size) >= 2 * size:
        halves = (picture.width // 2, picture.height // 2)
        picture = picture.resize(halves, Image.Resampling.BOX)
    picture = picture.resize(_scaled(picture.size, size), Image.Resampling.BICUBIC)
    left, top = ((side - size) // 2 for side in picture.size)
    return to_levels(_square(picture, left, top, size))


def _scaled(sides: tuple[int, int], short: int) -> tuple[int, int]:
    """Width and height for which the shorter one is `short`."""
    width, height = (round(side * short / min(sides)) for side in sides)
    return width, height


def _square(picture: Image.Image, left: int, top: int, size: int) -> Image.Image:
    return picture.crop((left, top, left + size, top + size))


def _draw(largest: int, rng: torch.Generator) -> int:
    """A whole number from 0 to `largest`."""
    return int(torch.randint(largest + 1, (), generator=rng))


def _stack(pictures: Iterable[Tensor]) -> Tensor:
    return torch.stack(list(pictures))
