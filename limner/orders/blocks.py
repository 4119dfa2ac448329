"""Next-X prediction: one X a step, where X is a cell, a subsample, some rows, the whole picture.

Ren et al., "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation",
arXiv:2502.20388. Of the entities that the paper compares, the released code holds cells.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.order import Partition
from limner.core.slots import Slots

Block = tuple[int, int, int]
"""Frames, rows, columns."""


@dataclass(frozen=True)
class NextX:
    """What is drawn at a step.

    Args:
        kind: "cell", `size` x `size` neighbouring tokens (1: a single token); "subsample", every
            `size`-th token of every `size`-th row; "rows", `size` rows; "frames", `size` frames of
            a clip; "picture", everything at once.
        size: see `kind`; it divides what it cuts. Of no use for "picture".
    """

    kind: Literal["cell", "subsample", "rows", "frames", "picture"] = "cell"
    size: int = 8

    def __post_init__(self) -> None:
        check(self.kind in _KINDS, "x.kind", self.kind, " or ".join(_KINDS))
        check(self.size > 0, "x.size", self.size, "1 or more")

    def order(self, layout: Layout) -> Partition:
        """Return the order over a layout.

        Raises:
            ConfigError: the layout is not a single grid, or `size` does not divide it.
        """
        size, (frames, rows, columns) = self.size, layout.extent
        block = {
            "cell": (1, size, size),
            "subsample": (1, size, size),
            "rows": (1, size, columns),
            "frames": (size, rows, columns),
            "picture": (frames, rows, columns),
        }[self.kind]
        return subsamples(layout, block) if self.kind == "subsample" else cells(layout, block)


_KINDS = ("cell", "subsample", "rows", "frames", "picture")


@lru_cache(maxsize=64)
def cells(layout: Layout, block: Block) -> Partition:
    """Return the order that draws neighbouring tokens together, cell after cell in raster order.

    Args:
        block: size of a cell.

    Raises:
        ConfigError: it does not divide the grid.
    """
    return _by_index(layout, block, inside=False)


@lru_cache(maxsize=64)
def subsamples(layout: Layout, block: Block) -> Partition:
    """Return the order that draws one token of every block, then the next one of every block.

    Args:
        block: its size; there are as many steps as it has tokens.

    Raises:
        ConfigError: it does not divide the grid.
    """
    return _by_index(layout, block, inside=True)


def _by_index(layout: Layout, block: Block, inside: bool) -> Partition:
    """Number tokens by the block they are in, or by their place inside it."""
    check(len(layout.segments) == 1, "layout", f"{len(layout.segments)} segments", "a single grid")
    extent = layout.segments[0].size
    fits = all(whole % part == 0 for whole, part in zip(extent, block, strict=True))
    shown = "x".join(map(str, extent))
    check(fits, "block", "x".join(map(str, block)), f"sizes that divide the grid, {shown}")
    counts = block if inside else tuple(w // p for w, p in zip(extent, block, strict=True))
    step = torch.zeros(len(layout), dtype=torch.int64)
    for axis, (part, count) in enumerate(zip(block, counts, strict=True), start=1):
        along = layout.coordinates()[:, axis]
        step = step * count + (along % part if inside else along // part)
    return Partition(step)


@lru_cache(maxsize=256)
def draft_slots(order: Partition, index: int) -> Slots:
    """Return what is read at a step: the tokens drawn before, which are kept, and a noisy draft.

    The draft speaks for itself.
    """
    noisy = order.steps[index].draw
    clean = order.steps[index - 1].draw if index else noisy[:0]
    place = torch.cat([clean, noisy])
    copy = (torch.arange(len(place)) >= len(clean)).long()
    itself = torch.arange(len(clean), len(place))
    speaks = torch.stack([itself, torch.zeros_like(itself), noisy], dim=1)
    return Slots.of(place, order.step[place], speaks, copy, commit=copy == 0)


@lru_cache(maxsize=64)
def noisy_slots(order: Partition) -> Slots:
    """Return all tokens in the order of the layout, all noisy, each of which speaks for itself."""
    place = torch.arange(len(order.step))
    speaks = torch.stack([place, torch.zeros_like(place), place], dim=1)
    return Slots.of(place, order.step, speaks, copy=1, commit=False)
