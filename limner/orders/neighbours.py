"""Next-neighbour prediction: tokens by their distance from the first, told by those beside them.

He et al., "Neighboring Autoregressive Modeling for Efficient Visual Generation", arXiv:2503.10696;
facts from NAR-images/autoregressive/models/{gpt,generate}.py and NAR-videos/models/larp_ar.py of
ThisisBillhe/NAR.

A step draws all tokens of one Manhattan distance from the first, a diagonal of the grid or of the
volume. A token has one head for every dimension: head 0 tells the next column's token, head 1 the
next row's, head 2 the next frame's. So a token is told by up to as many neighbours, whose logits
are averaged; the first one is told by all heads at the last place of the prefix.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.order import Partition
from limner.core.slots import Slots

PREFIX = -1
"""Place that tells the first token."""

NOBODY = -2
"""Stands where a token has no such neighbour."""


@lru_cache(maxsize=64)
def next_neighbour(layout: Layout) -> Partition:
    """Return the order by frame + row + column.

    Raises:
        ConfigError: the layout is not a single grid.
    """
    count = len(layout.segments)
    check(count == 1, "layout", f"{count} segments", "a single grid")
    return Partition(layout.coordinates()[:, 1:].sum(1))


@lru_cache(maxsize=64)
def tellers(layout: Layout, heads: int) -> Tensor:
    """Return the place whose head tells each token, int64 [N, heads]; do not write to it.

    Args:
        heads: 2 for pictures, 3 for clips.
    """
    place = torch.arange(len(layout))
    _, rows, columns = layout.extent
    table = torch.stack([place - stride for stride in (1, columns, rows * columns)], dim=1)
    along = layout.coordinates()[:, 1:].flip(1)
    table = table.where(along > 0, NOBODY)
    table[0] = PREFIX
    return table[:, :heads]


@lru_cache(maxsize=64)
def shares(layout: Layout, heads: int) -> Tensor:
    """Return the weight of each head's logits in those of a token, float32 [N, heads]."""
    told = (tellers(layout, heads) != NOBODY).float()
    return told / told.sum(1, keepdim=True)


@lru_cache(maxsize=4096)
def step_slots(layout: Layout, heads: int, index: int) -> Slots:
    """Return what is read at a step but the first: the tokens just drawn, which tell the next."""
    order = next_neighbour(layout)
    place = order.steps[index - 1].draw
    speaks = _told(order.steps[index].draw, tellers(layout, heads))
    speaks[:, 0] = torch.searchsorted(place, speaks[:, 0].contiguous())
    return Slots.of(place, torch.full_like(place, index), speaks)


@lru_cache(maxsize=64)
def all_slots(layout: Layout, heads: int) -> Slots:
    """Return the slots of all tokens in the order of the layout, as training reads them."""
    place = torch.arange(len(layout))
    return Slots.of(place, next_neighbour(layout).step + 1, _told(place, tellers(layout, heads)))


def _told(tokens: Tensor, table: Tensor) -> Tensor:
    """Return (telling place, head, token) for tokens [n], int64 [M, 3]; the first is told by none.

    Args:
        table: of `tellers`.
    """
    told = table[tokens]
    index, head = (told >= 0).nonzero(as_tuple=True)
    return torch.stack([told[index, head], head, tokens[index]], dim=1)
