"""Relations between slots against brute force, and masks against what cached stepping sees."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Row
from limner.core.slots import (
    ABSENT,
    Slots,
    attention_mask,
    batch,
    before,
    before_or_self,
    concatenate,
    everything,
    skip_causal,
    up_to,
    within,
)
from limner.core.tokens import empty
from limner.layers.key_value_memory import KeyValueMemory

RELATIONS: dict[str, Callable[[dict[str, int], dict[str, int]], bool]] = {
    "up_to": lambda q, k: k["since"] <= q["since"],
    "before": lambda q, k: k["since"] < q["since"],
    "within": lambda q, k: k["since"] == q["since"],
    "before_or_self": lambda q, k: (
        k["since"] < q["since"] or (k["since"] == q["since"] and k["place"] == q["place"])
    ),
    "skip_causal": lambda q, k: (
        k["since"] <= q["since"] if k["copy"] == 0 else q["copy"] == 1 and k["since"] == q["since"]
    ),
    "everything": lambda q, k: True,
}
NAMED = {
    "up_to": up_to,
    "before": before,
    "within": within,
    "before_or_self": before_or_self,
    "skip_causal": skip_causal,
    "everything": everything,
}
NOBODY = torch.empty(0, 3, dtype=torch.int64)

slot = st.fixed_dictionaries(
    {
        "place": st.integers(-2, 5),
        "since": st.one_of(st.integers(-2, 4), st.just(ABSENT)),
        "copy": st.integers(0, 1),
    }
)


def slots_of(listed: list[dict[str, int]]) -> Slots:
    fields = {name: torch.tensor([one[name] for one in listed]) for name in listed[0]}
    return Slots.of(fields["place"], fields["since"], NOBODY, copy=fields["copy"])


@pytest.mark.parametrize("name", RELATIONS)
@given(earlier=st.lists(slot, max_size=5), own=st.lists(slot, min_size=1, max_size=5))
@settings(max_examples=40, deadline=None)
def test_masks_equal_brute_force(
    name: str, earlier: list[dict[str, int]], own: list[dict[str, int]]
) -> None:
    keys = earlier + own
    found = attention_mask(NAMED[name], slots_of(own), slots_of(keys), len(earlier))
    for i, query in enumerate(own):
        for j, key in enumerate(keys):
            itself = j == len(earlier) + i
            seen = key["since"] != ABSENT and RELATIONS[name](query, key)
            assert bool(found[i, j]) == (itself or seen)


def test_batched_masks_equal_those_of_the_rows() -> None:
    rows = [
        slots_of([{"place": p, "since": p, "copy": 0} for p in range(length)]) for length in (3, 1)
    ]
    stacked = batch(rows)
    mask = attention_mask(up_to, stacked, stacked, torch.tensor([0, 0]))
    assert mask.shape == (2, 3, 3)
    assert torch.equal(mask[0], attention_mask(up_to, rows[0], rows[0]))
    # padding sees its own row's past or itself, and is seen by nobody
    assert mask[1, 0].tolist() == [True, False, False]
    assert mask[1].any(-1).all()
    assert not batch(rows).shared and batch([rows[0]] * 2).shared


@given(
    steps=st.lists(st.integers(0, 3), min_size=4, max_size=9),
    name=st.sampled_from(["up_to", "before", "within", "before_or_self"]),
)
@settings(max_examples=40, deadline=None)
def test_cached_stepping_sees_what_the_teacher_mask_shows(steps: list[int], name: str) -> None:
    """Every step's slots see in memory, row for row, what they see in one pass over all steps."""
    used = sorted(set(steps))
    partition = Partition(torch.tensor([used.index(step) for step in steps]))
    parts = [
        Slots.of(step.draw, torch.full_like(step.draw, step.index), NOBODY)
        for step in partition.steps
    ]
    whole = concatenate(parts)
    teacher = attention_mask(NAMED[name], whole, whole)
    row = Row(empty(grid(1, len(steps)), codes=1), partition, SeededNoise(0), {})
    memory = KeyValueMemory(1, 1, 1, len(steps), torch.device("cpu"), torch.float64)
    memory.admit([row])
    start = 0
    for part in parts:
        seen = weights_in_memory(memory, row, part, NAMED[name])
        stop = start + len(part)
        assert torch.equal(seen, teacher[start:stop, :stop])
        assert not teacher[start:stop, stop:].any()
        start = stop


def weights_in_memory(memory: KeyValueMemory, row: Row, part: Slots, relation: object) -> Tensor:
    """Return bool [L, K]: which keys have weight, read off by moving one value at a time."""
    reading = memory.read([row], batch([part]), relation)  # type: ignore[arg-type]
    query = torch.zeros(1, 1, len(part), 1, dtype=torch.float64)
    count = memory.mark(row)[0] + len(part)
    columns = []
    reading.attend(0, query, query, query)
    for key in range(count):
        memory.values[0][0, 0, :, 0] = torch.nn.functional.one_hot(
            torch.tensor(key), memory.values[0].shape[2]
        )
        own = memory.values[0][:1, :, count - len(part) : count].clone()
        columns.append(reading.attend(0, query, query, own)[0, 0, :, 0] > 0)
    reading.close()
    return torch.stack(columns, dim=1)


def test_scratch_keeps_what_is_not_committed() -> None:
    place = torch.arange(5)
    commit = torch.tensor([True, True, False, False, False])
    speaks = torch.tensor([[1, 0, 7], [2, 0, 8], [4, 1, 9]])
    slots = Slots.of(place, place + 10, speaks, copy=1, commit=commit)
    scratch = slots.scratch()
    assert scratch.place.tolist() == [2, 3, 4] and scratch.since.tolist() == [12, 13, 14]
    assert scratch.speaks.tolist() == [[0, 0, 8], [2, 1, 9]] and not scratch.commit.any()


def test_concatenated_steps_speak_from_their_new_slots() -> None:
    part = Slots.of(torch.tensor([3, 4]), torch.tensor([1, 1]), torch.tensor([[1, 0, 4]]))
    joined = concatenate([part, part, part])
    assert joined.place.tolist() == [3, 4] * 3
    assert joined.speaks.tolist() == [[1, 0, 4], [3, 0, 4], [5, 0, 4]]
