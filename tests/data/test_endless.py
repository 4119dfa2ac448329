"""An endless order: a position says all."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from limner.data.endless import EndlessOrder


def test_every_epoch_is_another_shuffle_of_all() -> None:
    order = EndlessOrder(50, seed=3)
    epochs = [tuple(order.take(50 * epoch, 50).tolist()) for epoch in range(4)]
    assert all(sorted(epoch) == list(range(50)) for epoch in epochs)
    assert len(set(epochs)) == 4
    assert tuple(EndlessOrder(50, seed=4).take(0, 50).tolist()) not in epochs


@given(
    st.integers(1, 20),
    st.lists(st.integers(0, 45), min_size=1, max_size=5),
    st.integers(0, 100),
)
def test_it_is_the_same_wherever_it_is_picked_up(
    count: int, lengths: list[int], begin: int
) -> None:
    whole = EndlessOrder(count, seed=1).take(begin, sum(lengths))
    order = EndlessOrder(count, seed=1)
    parts: list[torch.Tensor] = []
    for length in lengths:
        parts.append(order.take(begin + sum(map(len, parts)), length))
    assert torch.cat(parts).equal(whole) and whole.dtype == torch.int64


def test_without_shuffling_it_counts() -> None:
    order = EndlessOrder(3, seed=0, shuffle=False)
    assert order.take(2, 5).tolist() == [2, 0, 1, 2, 0]
