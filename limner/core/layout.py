"""Layout: where the tokens of a picture, a clip or a mixed sequence stand.

A layout is made at call time from a size and a schedule; it is never a buffer or a weight, so one
model can draw at sizes it was never trained on.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from limner.core.errors import check


@dataclass(frozen=True)
class Segment:
    """A homogeneous stretch of tokens: a grid, a scale, n registers `(1, 1, n)`, a run of text.

    Args:
        kind: "ids" (tokens of a codebook) or "values" (continuous vectors).
        size: frames, rows, columns.
        scale: index of the scale, from 0, in a multi-scale layout.
        role: "image", "text", "register" or "placeholder" (takes a place, is never output).
    """

    kind: str
    size: tuple[int, int, int]
    scale: int = 0
    role: str = "image"

    def __post_init__(self) -> None:
        check(self.kind in ("ids", "values"), "kind", self.kind, "'ids' or 'values'")
        roles = ("image", "text", "register", "placeholder")
        check(self.role in roles, "role", self.role, f"one of {', '.join(roles)}")
        check(min(self.size) > 0, "size", self.size, "positive frames, rows and columns")

    def __len__(self) -> int:
        frames, rows, columns = self.size
        return frames * rows * columns


@dataclass(frozen=True)
class Layout:
    """An ordered list of segments and the reference grid that positions are normalised by.

    Args:
        segments: in the order in which their tokens are stored.
        extent: frames, rows, columns of the reference grid (the picture's finest grid).
    """

    segments: tuple[Segment, ...]
    extent: tuple[int, int, int]

    def __len__(self) -> int:
        return sum(len(segment) for segment in self.segments)

    def coordinates(self) -> Tensor:
        """Return int64 [N, 4]: scale, frame, row, column of every token. Do not write to it."""
        return _coordinates(self)

    def segment_of(self) -> Tensor:
        """Return int64 [N]: index of the segment that each token belongs to. Do not write to it."""
        return _segment_of(self)

    def segment_at(self, token: int) -> int:
        """Return the index of the segment that a token belongs to."""
        for index, segment in enumerate(self.segments):
            token -= len(segment)
            if token < 0:
                return index
        raise IndexError("token outside the layout")

    def span(self, segment: int) -> slice:
        """Return the slice of token indices that a segment takes."""
        start = sum(len(earlier) for earlier in self.segments[:segment])
        return slice(start, start + len(self.segments[segment]))


def grid(
    rows: int, columns: int, frames: int = 1, kind: str = "ids", role: str = "image"
) -> Layout:
    """Return the layout of one grid of tokens in raster order."""
    size = (frames, rows, columns)
    return Layout((Segment(kind, size, role=role),), extent=size)


def pyramid(sizes: tuple[tuple[int, int], ...], kind: str = "ids") -> Layout:
    """Return the layout of maps of growing size, as next-scale prediction draws them.

    Args:
        sizes: rows and columns of each scale, coarse to fine; the last one is the reference grid.
    """
    segments = tuple(
        Segment(kind, (1, rows, columns), scale) for scale, (rows, columns) in enumerate(sizes)
    )
    return Layout(segments, extent=segments[-1].size)


@lru_cache(maxsize=256)
def _coordinates(layout: Layout) -> Tensor:
    parts = []
    for segment in layout.segments:
        frames, rows, columns = (torch.arange(size) for size in segment.size)
        place = torch.cartesian_prod(frames, rows, columns).reshape(-1, 3)
        parts.append(torch.cat([torch.full((len(place), 1), segment.scale), place], dim=1))
    return torch.cat(parts)


@lru_cache(maxsize=256)
def _segment_of(layout: Layout) -> Tensor:
    lengths = torch.tensor([len(segment) for segment in layout.segments])
    return torch.repeat_interleave(torch.arange(len(lengths)), lengths)
