"""Next-neighbour orders and who tells whom, against brute force."""

from __future__ import annotations

from itertools import product

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import ConfigError
from limner.core.layout import grid, pyramid
from limner.core.slots import attention_mask, up_to
from limner.orders.neighbours import all_slots, next_neighbour, shares, step_slots

sides = st.tuples(st.integers(1, 4), st.integers(1, 4), st.integers(1, 4))
Place = tuple[int, int, int]


def places(size: Place) -> list[Place]:
    return list(product(*(range(side) for side in size)))


def telling(size: Place, place: Place, heads: int) -> list[tuple[int, int]]:
    """Return (head, telling place's number) for a place, by looking at its neighbours."""
    found = []
    for head, axis in enumerate((2, 1, 0)[:heads]):
        before = list(place)
        before[axis] -= 1
        if before[axis] >= 0:
            found.append((head, places(size).index(tuple(before))))
    return found


@given(size=sides)
@settings(max_examples=20, deadline=None)
def test_steps_are_the_distances_from_the_first_token(size: Place) -> None:
    frames, rows, columns = size
    order = next_neighbour(grid(rows, columns, frames))
    wanted: dict[int, list[int]] = {}
    for number, place in enumerate(places(size)):
        wanted.setdefault(sum(place), []).append(number)
    assert [step.draw.tolist() for step in order.steps] == [wanted[k] for k in sorted(wanted)]
    assert len(order) == frames + rows + columns - 2


@given(size=sides, flat=st.booleans())
@settings(max_examples=20, deadline=None)
def test_tokens_are_told_by_the_neighbours_that_exist(size: Place, flat: bool) -> None:
    frames, rows, columns = size = (1, *size[1:]) if flat else size
    layout, heads = grid(rows, columns, frames), 2 if flat else 3
    slots = all_slots(layout, heads)
    said = {(token, head, slot) for slot, head, token in slots.speaks.tolist()}
    wanted = {
        (number, head, before)
        for number, place in enumerate(places(size))
        for head, before in telling(size, place, heads)
    }
    assert said == wanted
    weights = shares(layout, heads)
    assert weights[0].tolist() == pytest.approx([1 / heads] * heads)
    for number, place in list(enumerate(places(size)))[1:]:
        told = dict(telling(size, place, heads))
        row = [1 / len(told) if head in told else 0.0 for head in range(heads)]
        assert weights[number].tolist() == pytest.approx(row)


@given(size=sides)
@settings(max_examples=20, deadline=None)
def test_a_step_reads_what_was_just_drawn_and_speaks_for_what_is_next(size: Place) -> None:
    frames, rows, columns = size
    layout = grid(rows, columns, frames)
    order, every = next_neighbour(layout), []
    for index in range(1, len(order)):
        slots = step_slots(layout, 3, index)
        assert torch.equal(slots.place, order.steps[index - 1].draw)
        assert set(slots.speaks[:, 2].tolist()) == set(order.steps[index].draw.tolist())
        every += [(int(slots.place[s]), h, t) for s, h, t in slots.speaks.tolist()]
    assert sorted(every) == sorted(map(tuple, all_slots(layout, 3).speaks.tolist()))


def test_a_token_sees_nearer_ones_and_those_beside_it() -> None:
    slots = all_slots(grid(3, 4), 2)
    mask = attention_mask(up_to, slots, slots)
    for i, j in product(range(12), repeat=2):
        assert bool(mask[i, j]) == (sum(divmod(j, 4)) <= sum(divmod(i, 4)))


def test_only_single_grids_have_neighbours() -> None:
    with pytest.raises(ConfigError, match=r"layout='2 segments' .* a single grid"):
        next_neighbour(pyramid(((1, 1), (2, 2))))
