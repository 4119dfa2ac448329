"""Attention by stretches is attention by masks; where slots follow no steps, masks stay."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.core.memory import NoMemory, PassReading, scaled_attention, seen_among
from limner.core.slots import (
    ABSENT,
    Slots,
    Visible,
    attention_mask,
    batch,
    before,
    everything,
    up_to,
    within,
)
from limner.core.stretches import MOST, Stretches, stretches_of


def slots_since(since: list[int], rows: int = 2) -> Slots:
    row = Slots.of(torch.arange(len(since)), torch.tensor(since), torch.zeros(0, 3).long())
    return batch([row] * rows)


def attended(
    slots: Slots, visible: Visible, heads: int = 2, key_heads: int = 2
) -> tuple[Tensor, Tensor]:
    """Return attention as a pass takes it, and by the mask of the relation."""
    rng = torch.Generator().manual_seed(0)
    rows, length = slots.since.shape
    made = [
        torch.randn(rows, n, length, 4, generator=rng, dtype=torch.float64)
        for n in (heads, key_heads, key_heads)
    ]
    mask = torch.stack([attention_mask(visible, slots.row(i), slots.row(i)) for i in range(rows)])
    reading = NoMemory().read([], slots, visible)
    return reading.attend(0, *made, scale=0.3), scaled_attention(*made, mask[:, None], 0.3)


@settings(deadline=None)
@given(
    st.lists(st.integers(1, 5), min_size=1, max_size=8),
    st.sampled_from([up_to, within]),
    st.integers(1, 3),
)
def test_stretches_see_what_the_mask_says(sizes: list[int], visible: Visible, rows: int) -> None:
    since = [step for step, size in enumerate(sizes) for _ in range(size)]
    slots = slots_since(since, rows)
    assert isinstance(seen_among(visible, slots), Stretches)
    mine, masked = attended(slots, visible, heads=4, key_heads=2)
    torch.testing.assert_close(mine, masked, rtol=0, atol=1e-12)


def test_slots_of_a_step_each_are_causal_however_many() -> None:
    slots = slots_since(list(range(MOST + 9)))
    stretches = stretches_of(up_to, slots)
    assert stretches is not None and stretches.single
    mine, masked = attended(slots, up_to)
    torch.testing.assert_close(mine, masked, rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("since", "visible"),
    [
        ([0, 2, 1], up_to),  # not in the order of steps
        ([ABSENT, 0, 1], up_to),  # padding
        ([0, 1, 1], before),
        ([0, *range(MOST + 1)], up_to),  # too many, and the first two are one
    ],
)
def test_others_are_masked(since: list[int], visible: Visible) -> None:
    slots = slots_since(since)
    assert stretches_of(visible, slots) is None
    mine, masked = attended(slots, visible)
    torch.testing.assert_close(mine, masked, rtol=0, atol=0)


def test_rows_of_their_own_slots_are_masked() -> None:
    row = slots_since([0, 1, 1], rows=1).row(0)
    other = slots_since([0, 0, 1], rows=1).row(0)
    assert stretches_of(up_to, batch([row, other])) is None
    mine, masked = attended(batch([row, other]), up_to)
    torch.testing.assert_close(mine, masked, rtol=0, atol=0)


def test_nothing_is_masked_where_all_is_seen() -> None:
    assert seen_among(everything, slots_since([0, 1])) is None
    assert PassReading().seen is None
