"""Orders that follow from the layout alone; each is built once and shared by all rows."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.order import Partition
from limner.core.slots import Slots, concatenate


def drawable(layout: Layout) -> Tensor:
    """Return bool [N]: the tokens that are not placeholders."""
    real = torch.tensor([segment.role != "placeholder" for segment in layout.segments])
    return real[layout.segment_of()]


@lru_cache(maxsize=64)
def raster(layout: Layout) -> Partition:
    """One token a step, in the order in which the layout stores them."""
    real = drawable(layout)
    return Partition(torch.where(real, real.cumsum(0) - 1, -1))


@lru_cache(maxsize=64)
def runs(layout: Layout, size: int) -> Partition:
    """So many successive tokens a step, in the order in which the layout stores them.

    Raises:
        ConfigError: `size` does not divide the number of tokens.
    """
    count = len(layout)
    check(size > 0 and count % size == 0, "block", size, f"a divisor of the {count} tokens")
    return Partition(torch.arange(count) // size)


def without_given(order: Partition, known: Tensor) -> Partition:
    """Return an order without its first steps, up to the first that draws an unknown token.

    Args:
        known: bool [N], tokens that are given.
    """
    unknown = order.step[(order.step >= 0) & ~known.cpu()]
    first = int(unknown.min()) if len(unknown) else len(order)
    if first == 0:
        return order
    return Partition((order.step - first).clamp(min=-1))


@lru_cache(maxsize=64)
def scales(layout: Layout) -> Partition:
    """One segment a step: next-scale prediction (Tian et al., VAR, arXiv:2404.02905)."""
    return Partition(torch.where(drawable(layout), layout.segment_of(), -1))


@lru_cache(maxsize=256)
def scale_slots(layout: Layout, index: int) -> Slots:
    """Return the slots of one step of `scales`: the places drawn, each of which speaks for itself.

    Nothing reads the last scale after it is drawn, so it is not committed.
    """
    place = scales(layout).steps[index].draw
    speaks = torch.stack([torch.arange(len(place)), torch.zeros_like(place), place], dim=1)
    since = torch.full_like(place, index)
    return Slots.of(place, since, speaks, commit=index < len(scales(layout)) - 1)


@lru_cache(maxsize=16)
def teacher_slots(layout: Layout, count: int | None = None) -> Slots:
    """Return the slots of all scales in one pass, as training reads them.

    Args:
        count: of the first so many scales alone; None: of all.
    """
    count = len(scales(layout)) if count is None else count
    return concatenate([scale_slots(layout, index) for index in range(count)])


def counted_scales(layout: Layout, weight: Tensor | None) -> tuple[int, int]:
    """Return how many scales there are up to the last that counts in a loss, and their tokens.

    Args:
        weight: float [N], how much each token counts; None: all alike.
    """
    if weight is None:
        return len(layout.segments), len(layout)
    last = layout.segment_at(int(weight.nonzero().max()))
    return last + 1, layout.span(last).stop
