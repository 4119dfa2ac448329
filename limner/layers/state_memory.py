"""States of recurrent layers: what a row remembers, in a size that does not grow with the row."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.core.errors import LimnerError
from limner.core.memory import PassReading, Recurrence, State, seen_among
from limner.core.row import Row
from limner.core.slots import ABSENT, Slots, Visible
from limner.layers.places import Places, grown


class StateMemory:
    """States by row and layer; attention sees the slots of its own pass and nothing else.

    Buffers take the shapes, dtypes and devices of the states that layers leave.

    Args:
        layers: number of recurrent layers.
    """

    def __init__(self, layers: int) -> None:
        self.states: list[State] = [()] * layers
        self._places = Places()

    def admit(self, rows: Sequence[Row]) -> None:
        """Give every row a place, where nothing was read yet."""
        self._places.admit(rows)
        count = len(self._places)
        self.states = [tuple(grown(part, count) for part in state) for state in self.states]

    def release(self, rows: Sequence[Row]) -> None:
        """Take the rows' places back; the last row moves into a freed place."""
        for source, target in self._places.release(rows):
            for part in self._parts():
                part[target] = part[source]
                part[source] = 0

    def read(self, rows: Sequence[Row], slots: Slots, visible: Visible) -> StateReading:
        """Open one pass of these rows; slots are [R, L].

        Raises:
            LimnerError: padding is to be remembered; a recurrence cannot pass over it.
        """
        if bool((slots.commit & (slots.since == ABSENT)).any()):
            raise LimnerError("recurrent layers read no padding inside of a sequence")
        return StateReading(self, [row.slot for row in rows], slots, visible)

    def mark(self, row: Row) -> list[State]:
        """Return a copy of the row's states."""
        return [tuple(part[row.slot].clone() for part in state) for state in self.states]

    def rewind(self, row: Row, mark: list[State]) -> None:
        """Put the row's states back."""
        for state, marked in zip(self.states, mark, strict=True):
            for index, part in enumerate(state):
                # a layer that had read nothing at all has no marked state
                part[row.slot] = marked[index] if marked else 0

    def keep(self, row: Row, layer: int, index: Tensor) -> None:
        """Refuse: a state is one sum over all that was read.

        Raises:
            LimnerError: always.
        """
        raise LimnerError("a recurrent state holds no entries that could be kept one by one")

    def bytes(self) -> int:
        """Return the bytes of the rows' states."""
        rows = len(self._places)
        return sum(part[:rows].numel() * part.element_size() for part in self._parts())

    def before(self, layer: int, rows: list[int]) -> State | None:
        """Return what a layer left for these places; None: no row's pass was closed yet."""
        return tuple(part[rows] for part in self.states[layer]) or None

    def store(self, layer: int, rows: list[int], state: State) -> None:
        """Keep what a layer left for these places."""
        if not self.states[layer]:
            empty = (part.new_empty(0, *part.shape[1:]) for part in state)
            self.states[layer] = tuple(grown(part, len(self._places)) for part in empty)
        for buffer, part in zip(self.states[layer], state, strict=True):
            buffer[rows] = part

    def _parts(self) -> list[Tensor]:
        return [part for state in self.states for part in state]


class StateReading(PassReading):
    """One pass: states go on from what is kept, and stay where slots are committed."""

    def __init__(
        self, memory: StateMemory, rows: list[int], slots: Slots, visible: Visible
    ) -> None:
        super().__init__(seen_among(visible, slots))
        self.memory = memory
        self.rows = rows
        real = (slots.since != ABSENT).sum(-1)
        self._committed = slots.commit.sum(-1)
        self._kept = self._committed.nonzero().squeeze(-1).tolist()
        # rows that keep some slots and not others need their states in between
        self._between = bool((self._committed < real)[self._kept].any())
        self._real = None if bool((real == len(slots)).all()) else real
        self._after: dict[int, State] = {}

    def recur(self, layer: int, recurrence: Recurrence, x: Tensor) -> Tensor:
        """See `limner.core.memory.RecurrentReading.recur`."""
        before = self.memory.before(layer, self.rows)
        real = None if self._real is None else self._real.to(x.device)
        outputs, after = recurrence(x, before, real)
        if self._between:
            _, after = recurrence(x, before, self._committed.to(x.device))
        if self._kept:
            self._after[layer] = tuple(part[self._kept] for part in after)
        return outputs

    def close(self) -> None:
        """Keep the states after the committed slots."""
        rows = [self.rows[index] for index in self._kept]
        for layer, state in self._after.items():
            self.memory.store(layer, rows, state)


def compile_around_states() -> None:
    """Let compiled layers call the memory as it is, and compile the recurrences it calls.

    Its bookkeeping by row would be compiled anew at every step.
    """
    StateReading.recur = torch.compiler.disable(StateReading.recur, recursive=False)  # type: ignore[method-assign]
