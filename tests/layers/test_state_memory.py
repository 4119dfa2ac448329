"""States are kept by row: after what is committed, and nothing else."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import LimnerError
from limner.core.layout import grid
from limner.core.memory import State
from limner.core.noise import SeededNoise
from limner.core.row import Row
from limner.core.slots import Slots, batch, up_to
from limner.core.tokens import empty
from limner.layers.state_memory import StateMemory
from limner.orders import raster


def running_sum(x: Tensor, state: State | None, counts: Tensor | None) -> tuple[Tensor, State]:
    """A recurrence that a test can follow in its head: [R, L, 1] -> sums so far."""
    before = x.new_zeros(len(x), 1) if state is None else state[0]
    sums = before.unsqueeze(1) + x.cumsum(1)
    if counts is None:
        return sums, (sums[:, -1],)
    enters = torch.arange(x.shape[1]) < counts.unsqueeze(1)
    return sums, (before + (x * enters.unsqueeze(-1)).sum(1),)


def rows(count: int) -> list[Row]:
    tokens = empty(grid(1, 4), codes=1)
    return [Row(tokens, raster(tokens.layout), SeededNoise(0), {}) for _ in range(count)]


def slots(*committed: bool) -> Slots:
    place = torch.arange(len(committed))
    speaks = torch.empty(0, 3, dtype=torch.int64)
    return Slots.of(place, place, speaks, commit=torch.tensor(committed))


def passed(memory: StateMemory, rows: list[Row], each: list[Slots], *values: list[float]) -> Tensor:
    reading = memory.read(rows, batch(each), up_to)
    length = max(len(row) for row in each)
    x = torch.tensor([[*row, *[100.0] * (length - len(row))] for row in values]).unsqueeze(-1)
    out = reading.recur(0, running_sum, x)
    reading.close()
    return out.squeeze(-1)


def kept(memory: StateMemory) -> list[float]:
    return memory.states[0][0].squeeze(-1).tolist()


def test_only_what_is_committed_stays() -> None:
    memory, pair = StateMemory(1), rows(2)
    memory.admit(pair)
    each = [slots(True, True, False), slots(False)]
    out = passed(memory, pair, each, [1.0, 2.0, 4.0], [8.0])
    assert out[0].tolist() == [1, 3, 7] and out[1, 0] == 8  # scratch has outputs, padding none
    assert kept(memory) == [3, 0]
    out = passed(memory, pair, [slots(False), slots(True, True)], [1.0], [5.0, 6.0])
    assert out[0, 0] == 4 and out[1].tolist() == [5, 11]
    assert kept(memory) == [3, 11]


def test_a_pass_that_is_not_closed_leaves_nothing() -> None:
    memory, (row,) = StateMemory(1), rows(1)
    memory.admit([row])
    passed(memory, [row], [slots(True)], [1.0])
    memory.read([row], batch([slots(True)]), up_to).recur(0, running_sum, torch.ones(1, 1, 1))
    assert kept(memory) == [1]


def test_rows_come_go_and_are_rewound() -> None:
    memory, trio = StateMemory(1), rows(3)
    memory.admit(trio[:2])
    unread = memory.mark(trio[0])
    passed(memory, trio[:2], [slots(True)] * 2, [1.0], [2.0])
    marked = memory.mark(trio[1])
    passed(memory, trio[:2], [slots(True)] * 2, [10.0], [20.0])
    memory.rewind(trio[1], marked)
    assert kept(memory) == [11, 2] and memory.bytes() == 8
    memory.admit(trio[2:])
    assert kept(memory) == [11, 2, 0]
    memory.rewind(trio[0], unread)
    assert kept(memory) == [0, 2, 0]
    memory.release(trio[:1])
    newcomer = rows(1)
    memory.admit(newcomer)
    assert [row.slot for row in (trio[2], trio[1], newcomer[0])] == [0, 1, 2]
    assert kept(memory) == [0, 2, 0]


def test_what_a_state_cannot_do_is_refused() -> None:
    memory, (row,) = StateMemory(1), rows(1)
    memory.admit([row])
    with pytest.raises(LimnerError, match="one by one"):
        memory.keep(row, 0, torch.tensor([0]))
    padding = Slots(*(field.clone() for field in vars(batch([slots(True, True)])).values()))
    padding.since[0, 0] = -(2**40)
    with pytest.raises(LimnerError, match="no padding inside"):
        memory.read([row], padding, up_to)
