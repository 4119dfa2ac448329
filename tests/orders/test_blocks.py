"""Next-X orders, against brute force; and what is read at their steps."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.order import Partition
from limner.core.slots import attention_mask, up_to
from limner.orders.blocks import NextX, cells, draft_slots, noisy_slots, subsamples

blocks = st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 3))


def drawn(order: Partition) -> list[list[int]]:
    return [step.draw.tolist() for step in order.steps]


def grouped(
    size: tuple[int, int, int], block: tuple[int, int, int], inside: bool
) -> list[list[int]]:
    """Group the places of a grid by hand: by their block, or by their place in the block."""
    found: dict[tuple[int, ...], list[int]] = {}
    for number, place in enumerate(product(*(range(side) for side in size))):
        parts = zip(place, block, strict=True)
        key = tuple(at % by if inside else at // by for at, by in parts)
        found.setdefault(key, []).append(number)
    return [found[key] for key in sorted(found)]


@given(block=blocks, counts=blocks)
@settings(max_examples=20, deadline=None)
def test_cells_and_subsamples_are_what_they_are_by_hand(
    block: tuple[int, int, int], counts: tuple[int, int, int]
) -> None:
    frames, rows, columns = size = tuple(b * c for b, c in zip(block, counts, strict=True))
    layout = grid(rows, columns, frames)
    assert drawn(cells(layout, block)) == grouped(size, block, inside=False)  # type: ignore[arg-type]
    assert drawn(subsamples(layout, block)) == grouped(size, block, inside=True)  # type: ignore[arg-type]


def test_every_kind_of_x() -> None:
    layout, clip = grid(4, 6), grid(2, 2, 4)
    assert drawn(NextX("cell", 1).order(layout)) == [[token] for token in range(24)]
    assert drawn(NextX("cell", 2).order(layout))[:2] == [[0, 1, 6, 7], [2, 3, 8, 9]]
    assert drawn(NextX("subsample", 2).order(layout))[1] == [1, 3, 5, 13, 15, 17]
    assert drawn(NextX("rows", 2).order(layout)) == [list(range(12)), list(range(12, 24))]
    assert drawn(NextX("picture").order(layout)) == [list(range(24))]
    assert drawn(NextX("frames", 2).order(clip)) == [list(range(8)), list(range(8, 16))]


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (NextX("cell", 4), "block='1x4x4' .* divide the grid, 1x4x6"),
        (NextX("subsample", 3), "block='1x3x3'"),
        (NextX("rows", 3), "block='1x3x6'"),
        (NextX("frames", 2), "block='2x4x6'"),
    ],
)
def test_a_block_that_does_not_divide_the_grid_is_refused(x: NextX, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        x.order(grid(4, 6))


@pytest.mark.parametrize("wrong", [{"kind": "scale"}, {"size": 0}])
def test_unknown_x_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=r"x\.(kind|size)"):
        NextX(**wrong)  # type: ignore[arg-type]


def test_a_step_reads_the_x_before_clean_and_its_own_noisy() -> None:
    order = cells(grid(4, 4), (1, 2, 2))
    first, later = draft_slots(order, 0), draft_slots(order, 2)
    assert first.place.tolist() == [0, 1, 4, 5] and first.copy.tolist() == [1] * 4
    assert later.place.tolist() == [2, 3, 6, 7, 8, 9, 12, 13]
    assert later.copy.tolist() == [0] * 4 + [1] * 4
    assert torch.equal(later.commit, later.copy == 0)
    assert later.speaks[:, 2].tolist() == [8, 9, 12, 13]
    mask = attention_mask(up_to, later, later)
    assert not mask[:4, 4:].any() and mask[:4, :4].all() and mask[4:].all()


def test_training_sees_all_of_an_x_and_of_those_before() -> None:
    order = subsamples(grid(2, 4), (1, 2, 2))
    slots = noisy_slots(order)
    mask = attention_mask(up_to, slots, slots)
    assert torch.equal(mask, order.step <= order.step.unsqueeze(1))
