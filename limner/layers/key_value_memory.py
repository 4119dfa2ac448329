"""Keys and values of earlier passes, in buffers that are allocated once.

It lives beside the layers whose keys and values it holds, so that a model can offer its own memory.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any
from weakref import WeakValueDictionary

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import LimnerError
from limner.core.memory import as_heads, scaled_attention
from limner.core.row import Row
from limner.core.slots import ABSENT, Slots, Visible, attention_mask
from limner.layers.places import Places, grown


@dataclass
class Ledger:
    """What the entries of a layer are; layers whose entries were never evicted share one.

    Args:
        lengths: entries of each row.
        since: int64 [rows, capacity], as in `Slots`; ABSENT where nothing is kept.
        copy: int64 [rows, capacity], as in `Slots`.
        place: int64 [rows, capacity], as in `Slots`.
    """

    lengths: list[int]
    since: Tensor
    copy: Tensor
    place: Tensor

    @staticmethod
    def empty(rows: int, capacity: int) -> Ledger:
        """Return a ledger in which nothing is kept."""
        blank = torch.full((rows, capacity), ABSENT)
        return Ledger([0] * rows, blank, torch.zeros_like(blank), torch.zeros_like(blank))

    def grow(self, rows: int) -> None:
        """Add empty rows."""
        more = Ledger.empty(rows - len(self.lengths), self.since.shape[1])
        self.lengths += more.lengths
        for name in ("since", "copy", "place"):
            setattr(self, name, torch.cat([getattr(self, name), getattr(more, name)]))

    def clone(self) -> Ledger:
        """Return a copy that shares nothing."""
        return Ledger(list(self.lengths), self.since.clone(), self.copy.clone(), self.place.clone())

    def move(self, source: int, target: int) -> None:
        """Let row `target` hold what row `source` holds."""
        self.lengths[target] = self.lengths[source]
        for table in (self.since, self.copy, self.place):
            table[target] = table[source]

    def cut(self, row: int, length: int) -> None:
        """Forget a row's entries from `length` on."""
        self.lengths[row] = length
        self.since[row, length:] = ABSENT

    def keep(self, row: int, index: Tensor) -> None:
        """Keep the entries at `index` of a row, in that order."""
        for table in (self.since, self.copy, self.place):
            table[row, : len(index)] = table[row, index]
        self.cut(row, len(index))

    def commit(self, rows: list[int], slots: Slots, counts: list[int]) -> None:
        """Append the first `counts[r]` slots of each row."""
        for index, (row, count) in enumerate(zip(rows, counts, strict=True)):
            part = slice(self.lengths[row], self.lengths[row] + count)
            self.since[row, part] = slots.since[index, :count]
            self.copy[row, part] = slots.copy[index, :count]
            self.place[row, part] = slots.place[index, :count]
            self.lengths[row] += count

    def commit_alike(self, rows: int, slots: Slots, count: int) -> None:
        """Append the first `count` slots, the same for the first `rows` rows of equal length."""
        part = slice(self.lengths[0], self.lengths[0] + count)
        self.since[:rows, part] = slots.since[0, :count]
        self.copy[:rows, part] = slots.copy[0, :count]
        self.place[:rows, part] = slots.place[0, :count]
        self.lengths[:rows] = [part.stop] * rows


class KeyValueMemory:
    """Static buffers of keys and values; rows may stand at different lengths.

    Args:
        layers: number of attention layers.
        heads: key heads of a layer; several numbers: of each.
        head_width: channels of a head; several numbers: of each layer's.
        capacity: entries a row can keep. What a pass brings beyond that and does not keep is seen
            in a copy, one layer at a time.
    """

    def __init__(
        self,
        layers: int,
        heads: int | Sequence[int],
        head_width: int | Sequence[int],
        capacity: int,
        device: torch.device,
        dtype: torch.dtype,
    ) -> None:
        self.capacity = capacity
        sizes = ([n] * layers if isinstance(n, int) else n for n in (heads, head_width))
        self.keys = [
            torch.empty(0, count, capacity, width, device=device, dtype=dtype)
            for count, width in zip(*sizes, strict=True)
        ]
        self.values = list(self.keys)
        self.ledgers = [Ledger.empty(0, capacity)] * layers
        self._places = Places()

    def admit(self, rows: Sequence[Row]) -> None:
        """Give every row a place."""
        self._places.admit(rows)
        count = len(self._places)
        if count > self.keys[0].shape[0]:
            self.keys = [grown(buffer, count) for buffer in self.keys]
            self.values = [grown(buffer, count) for buffer in self.values]
            for ledger in self._distinct():
                ledger.grow(count)

    def release(self, rows: Sequence[Row]) -> None:
        """Take the rows' places back; the last row moves into a freed place."""
        for source, target in self._places.release(rows):
            if source != target:
                for buffer in (*self.keys, *self.values):
                    buffer[target] = buffer[source]
                for ledger in self._distinct():
                    ledger.move(source, target)
            for ledger in self._distinct():
                ledger.cut(source, 0)

    def read(self, rows: Sequence[Row], slots: Slots, visible: Visible) -> KeyValueReading:
        """Open one pass of these rows; slots are [R, L]."""
        return KeyValueReading(self, [row.slot for row in rows], slots, visible)

    def mark(self, row: Row) -> list[int]:
        """Return how many entries each layer keeps for the row."""
        return [ledger.lengths[row.slot] for ledger in self.ledgers]

    def rewind(self, row: Row, mark: list[int]) -> None:
        """Forget what was committed since the mark."""
        for ledger, length in zip(self.ledgers, mark, strict=True):
            ledger.cut(row.slot, length)

    def keep(self, row: Row, layer: int, index: Tensor) -> None:
        """Keep only some entries of a row's layer, in the given order.

        Args:
            index: int64 [k], or [heads, k] where every head keeps its own; those entries must
                then be visible alike, as the ledger describes them by the first head's.
        """
        ledger = self.ledgers[layer]
        if sum(ledger is other for other in self.ledgers) > 1:
            ledger = self.ledgers[layer] = ledger.clone()
        per_head = index if index.dim() == 2 else index.expand(self.keys[layer].shape[1], -1)
        for buffer in (self.keys[layer], self.values[layer]):
            kept = buffer[row.slot]
            where = per_head.to(kept.device).unsqueeze(-1).expand(-1, -1, kept.shape[-1])
            kept[:, : where.shape[1]] = kept.gather(1, where)
        ledger.keep(row.slot, per_head[0].cpu())

    def bytes(self) -> int:
        """Return the bytes of entries that are kept (not of the room allocated)."""
        total = 0
        for buffer, ledger in zip(self.keys, self.ledgers, strict=True):
            entry = buffer.shape[1] * buffer.shape[3] * buffer.element_size()
            total += 2 * entry * sum(ledger.lengths)
        return total

    def _distinct(self) -> list[Ledger]:
        return list({id(ledger): ledger for ledger in self.ledgers}.values())


@dataclass
class _Access:
    """How one pass reads the layers that share a ledger; `fits`: the buffers have room for it."""

    starts: list[int]
    end: int
    mask: Tensor | None
    fits: bool


_numbers = itertools.count()
_readings: WeakValueDictionary[int, KeyValueReading] = WeakValueDictionary()
"""Open passes by their numbers, by which compiled layers know them."""


class KeyValueReading:
    """One pass: its keys are written behind what is kept, and stay only where committed."""

    def __init__(
        self, memory: KeyValueMemory, rows: list[int], slots: Slots, visible: Visible
    ) -> None:
        self.memory = memory
        self.rows = rows
        self.slots = slots
        self.visible = visible
        self.contiguous = rows == list(range(len(rows)))
        self._access: dict[int, _Access] = {}
        # a tensor: compiled layers take it as it comes, and are not compiled anew for another
        self.number = torch.tensor(next(_numbers))
        _readings[int(self.number)] = self

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """See `limner.core.memory.Reading.attend`."""
        if torch.compiler.is_compiling():
            given = self.number, layer, query, key, value, scale, dropout
            mixed: Tensor = torch.ops.limner.attend(*given)
            return mixed.transpose(1, 2)
        access = self._access_of(self.memory.ledgers[layer])
        keys = self._extend(self.memory.keys[layer], key, access)
        values = self._extend(self.memory.values[layer], value, access)
        return scaled_attention(query, keys, values, access.mask, scale, dropout)

    def close(self) -> None:
        """Commit."""
        counts = self.slots.commit.sum(-1).tolist()
        for ledger in self.memory._distinct():
            access = self._access_of(ledger)
            if self.contiguous and self.slots.shared and len(set(access.starts)) == 1:
                ledger.commit_alike(len(self.rows), self.slots, counts[0])
            else:
                ledger.commit(self.rows, self.slots, counts)

    def _extend(self, buffer: Tensor, new: Tensor, access: _Access) -> Tensor:
        """Write [R, heads, L, d] behind what is kept; return all that may be seen."""
        start, new = access.starts[0], new.to(buffer.dtype)
        if self.contiguous and all(other == start for other in access.starts):
            if access.fits:
                seen = buffer[: len(self.rows), :, : access.end]
                seen[:, :, start:] = new
                return seen
            if not self.slots.commit.any():
                return torch.cat([buffer[: len(self.rows), :, :start], new], dim=2)
        rows = torch.tensor(self.rows, device=buffer.device)
        starts = torch.tensor(access.starts, device=buffer.device)
        place = starts.unsqueeze(1) + torch.arange(new.shape[2], device=buffer.device)
        new = new.transpose(1, 2)
        if access.fits:
            buffer[rows.unsqueeze(1), :, place] = new
            return buffer[rows, :, : access.end]
        # a copy with room for all; of the pass, only what is committed goes to the buffer
        seen = functional.pad(buffer[rows], (0, 0, 0, access.end - buffer.shape[2]))
        seen[torch.arange(len(rows), device=buffer.device).unsqueeze(1), :, place] = new
        row, slot = self.slots.commit.to(buffer.device).nonzero(as_tuple=True)
        buffer[rows[row], :, place[row, slot]] = new[row, slot]
        return seen

    def _access_of(self, ledger: Ledger) -> _Access:
        if id(ledger) not in self._access:
            self._access[id(ledger)] = self._open(ledger)
        return self._access[id(ledger)]

    def _open(self, ledger: Ledger) -> _Access:
        starts = [ledger.lengths[row] for row in self.rows]
        end = max(starts) + len(self.slots)
        fits = end <= self.memory.capacity
        if not fits:
            self._check_room(starts)
        more = (0, max(0, end - self.memory.capacity))
        since = functional.pad(ledger.since[self.rows, :end], more, value=ABSENT)
        keys = Slots(
            functional.pad(ledger.place[self.rows, :end], more),
            since,
            functional.pad(ledger.copy[self.rows, :end], more),
            commit=torch.ones_like(since, dtype=torch.bool),
            speaks=torch.zeros(len(since), 0, 3, dtype=torch.int64),
        )
        own = torch.tensor(starts).unsqueeze(1) + torch.arange(len(self.slots))
        keys.place.scatter_(1, own, self.slots.place)
        keys.since.scatter_(1, own, self.slots.since)
        keys.copy.scatter_(1, own, self.slots.copy)
        if self._alike(keys, starts):
            mask = attention_mask(self.visible, self.slots.row(0), keys.row(0), starts[0])
        else:
            mask = attention_mask(self.visible, self.slots, keys, torch.tensor(starts))
        return _Access(starts, end, as_heads(mask), fits)

    def _check_room(self, starts: list[int]) -> None:
        """Raise unless every row has room for what is kept of its slots."""
        used = self.slots.commit.sum(-1)
        need, room = int((torch.tensor(starts) + used).max()), self.memory.capacity
        if need > room:
            raise LimnerError(f"a row needs {need} entries of memory, and the memory holds {room}")

    def _alike(self, keys: Slots, starts: list[int]) -> bool:
        """Whether one mask serves all rows."""
        return (
            self.slots.shared
            and all(start == starts[0] for start in starts)
            and all(
                bool((table == table[:1]).all()) for table in (keys.since, keys.copy, keys.place)
            )
        )


# an operator that the compiler leaves alone, so that a block stays whole around it; it has no
# gradients, as this memory is for drawing
_operators = torch.library.Library("limner", "FRAGMENT")
_operators.define(
    "attend(Tensor reading, SymInt layer, Tensor query, Tensor key, Tensor value, float? scale,"
    " float dropout) -> Tensor"
)


def _attend(reading: Tensor, *given: Any) -> Tensor:
    """Let the pass of this number attend; return float [R, L, heads, d], contiguous."""
    return _readings[int(reading)].attend(*given).transpose(1, 2).contiguous()


_operators.impl("attend", _attend, "CompositeExplicitAutograd")


@torch.library.register_fake("limner::attend")
def _empty_mixed(
    reading: Tensor, layer: int, query: Tensor, key: Tensor, value: Tensor, *_: Any
) -> Tensor:
    rows, heads, slots = query.shape[:3]
    return query.new_empty(rows, slots, heads, value.shape[-1])
