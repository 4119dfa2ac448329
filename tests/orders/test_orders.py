"""Partitions: every token once, in the steps that were asked for."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import ConfigError
from limner.core.layout import Layout, Segment, grid, pyramid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Row
from limner.core.tokens import empty
from limner.orders import cosine_counts, random_partition, raster, scales
from limner.orders.random import shuffled

sizes = st.lists(st.tuples(st.integers(1, 4), st.integers(1, 4)), min_size=1, max_size=5)


def walk(order: Partition, count: int) -> list[list[int]]:
    """Return what is drawn at each step, as a row is asked for it."""
    row = Row(empty(grid(1, count), codes=1), order, SeededNoise(0), {})
    drawn = []
    while (step := order.next(row)) is not None:
        assert step.index == row.step and step.total == len(order)
        assert step.level is None and step.finishes().all()
        drawn.append(step.draw.tolist())
        row.step += 1
    assert order.next(row) is None
    return drawn


def joined(steps: list[list[int]]) -> list[int]:
    return [token for step in steps for token in step]


@given(sizes=sizes)
@settings(max_examples=30, deadline=None)
def test_raster_draws_one_token_a_step(sizes: list[tuple[int, int]]) -> None:
    layout = pyramid(tuple(sizes))
    assert walk(raster(layout), len(layout)) == [[i] for i in range(len(layout))]


@given(sizes=sizes)
@settings(max_examples=30, deadline=None)
def test_scales_draw_one_map_a_step(sizes: list[tuple[int, int]]) -> None:
    layout = pyramid(tuple(sizes))
    drawn = walk(scales(layout), len(layout))
    assert [len(step) for step in drawn] == [rows * columns for rows, columns in sizes]
    assert joined(drawn) == list(range(len(layout)))
    for index, step in enumerate(drawn):
        assert (layout.coordinates()[step, 0] == index).all()


@given(steps=st.lists(st.integers(-1, 5), min_size=1, max_size=20))
@settings(max_examples=60, deadline=None)
def test_any_partition_is_walked_as_given(steps: list[int]) -> None:
    used = sorted({step for step in steps if step >= 0})
    if not used:
        steps, used = [*steps, 0], [0]
    dense = [used.index(step) if step >= 0 else -1 for step in steps]
    drawn = walk(Partition(torch.tensor(dense)), len(dense))
    assert drawn == [
        [token for token, step in enumerate(dense) if step == index] for index in range(len(used))
    ]


def test_steps_must_not_be_empty() -> None:
    with pytest.raises(ConfigError, match="without empty steps"):
        Partition(torch.tensor([0, 2, 2]))


def test_placeholders_are_never_drawn() -> None:
    middle = Segment("ids", (1, 1, 2), role="placeholder")
    layout = Layout((Segment("ids", (1, 1, 2)), middle, Segment("ids", (1, 1, 2))), (1, 1, 2))
    assert walk(raster(layout), 6) == [[0], [1], [4], [5]]


@given(total=st.integers(1, 300), share=st.floats(0.01, 1))
@settings(max_examples=60, deadline=None)
def test_cosine_counts(total: int, share: float) -> None:
    steps = max(1, int(total * share))
    counts = cosine_counts(total, steps)
    assert len(counts) == steps
    masked = total
    for index, count in enumerate(counts):
        wanted = math.floor(total * math.cos(math.pi / 2 * (index + 1) / steps))
        assert count == max(1, min(masked - 1, wanted))
        masked = count


@given(total=st.integers(1, 80), share=st.floats(0.01, 1), seed=st.integers(0, 10))
@settings(max_examples=40, deadline=None)
def test_random_partitions_draw_everything_once(total: int, share: float, seed: int) -> None:
    steps = max(1, int(total * share))
    permutation = torch.randperm(total, generator=torch.Generator().manual_seed(seed))
    drawn = walk(random_partition(permutation, steps), total)
    assert len(drawn) == steps and sorted(joined(drawn)) == list(range(total))
    left = total
    for step, count in zip(drawn, [*cosine_counts(total, steps)[:-1], 0], strict=True):
        # the permutation is eaten from its end
        assert sorted(permutation[count:left].tolist()) == step
        left = count


def test_given_tokens_are_left_out() -> None:
    order = random_partition(torch.tensor([5, 1, 4]), 2, count=6)
    assert sorted(joined(walk(order, 6))) == [1, 4, 5]


def test_a_shuffle_follows_from_the_seed_alone() -> None:
    tokens = torch.arange(30)
    first = shuffled(tokens, SeededNoise(4))
    assert sorted(first.tolist()) == list(range(30))
    assert torch.equal(first, shuffled(tokens, SeededNoise(4)))
    assert not torch.equal(first, shuffled(tokens, SeededNoise(5)))
    # tokens that are given do not disturb the order of the others
    part = shuffled(tokens[::2], SeededNoise(4)).tolist()
    assert part == [token for token in first.tolist() if token % 2 == 0]
