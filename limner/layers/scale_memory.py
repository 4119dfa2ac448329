"""A memory for next-scale models that forgets: every layer keeps a budgeted number of entries.

Li et al., "Memory-Efficient Visual Autoregressive Modeling with Scale-Aware KV Cache Compression"
(ScaleKV), arXiv:2505.19602; facts from scale_kv.py of StargazerX0/ScaleKV. After a scale, a layer
that holds more than its budget keeps those entries that `limner.layers.cache_selection` selects,
each head its own. What is held is all that is allocated; during a pass one layer's keys and values
stand beside the new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.core.memory import as_heads, scaled_attention
from limner.core.row import Row
from limner.core.slots import ABSENT, Slots, Visible, attention_mask, up_to
from limner.layers.cache_selection import (
    Pooling,
    Scores,
    attention_scores,
    product_scores,
    select,
    window_of,
)
from limner.layers.places import Places


@dataclass(frozen=True)
class CacheBudget:
    """How many entries each layer keeps after each scale.

    Args:
        kept: of every scale that something is kept after, one number a layer; the last also stands
            for further scales. An empty one: all.
        base: entries that a layer may hold before it first forgets some; from then on its budget
            holds.
        window: entries of the latest map that are observed, and stay.
        scores: what entries are chosen by: the attention that they get of the observed ones; or,
            as the released code has it, "products" with queries before bias, norm and rotation.
        kernel: neighbouring entries whose scores are pooled; odd.
        pooling: of the scores, "max" or "average".
    """

    kept: tuple[tuple[int, ...], ...]
    base: int
    window: int = 16
    scores: Scores = "attention"
    kernel: int = 1
    pooling: Pooling = "max"

    def __post_init__(self) -> None:
        check(self.window > 0, "window", self.window, "at least 1")
        check(self.kernel > 0 and self.kernel % 2 == 1, "kernel", self.kernel, "odd and above 0")
        check(self.scores in get_args(Scores), "scores", self.scores, "'attention' or 'products'")
        check(self.pooling in get_args(Pooling), "pooling", self.pooling, "'max' or 'average'")
        check(len(self.kept) > 0, "kept", self.kept, "budgets of one scale or more")
        least = min((min(row) for row in self.kept if row), default=self.base)
        least, accepted = min(least, self.base), f"at least the window of {self.window} entries"
        check(least >= self.window, "cache budget", least, accepted)
        layers = {len(row) for row in self.kept if row}
        check(len(layers) < 2, "kept", self.kept, "as many layers after every scale")

    def check_layers(self, layers: int) -> None:
        """Raise ConfigError unless it is a budget for so many layers."""
        for row in self.kept:
            check(len(row) in (0, layers), "cache budget", f"{len(row)} layers", f"one of {layers}")

    def after(self, scale: int, layer: int) -> int | None:
        """Return how many entries a layer keeps after a scale; None: all."""
        row = self.kept[min(scale, len(self.kept) - 1)]
        return row[layer] if row else None


@dataclass(frozen=True)
class Kept:
    """What one layer holds of one row.

    Args:
        keys: float [heads, n, d].
        values: float [heads, n, d].
        place: int64 [heads, n], the tokens they are of.
        since: int64 [n], as in `Slots`; of the first head's.
        total: entries there would be if none had been forgotten.
        bounded: it has once held more than the base.
    """

    keys: Tensor
    values: Tensor
    place: Tensor
    since: Tensor
    total: int
    bounded: bool = False

    def __len__(self) -> int:
        return self.keys.shape[1]

    def only(self, index: Tensor) -> Kept:
        """Return the entries at int64 [heads, k] alone."""
        where = index.unsqueeze(-1).expand(-1, -1, self.keys.shape[-1])
        return replace(
            self,
            keys=self.keys.gather(1, where),
            values=self.values.gather(1, where),
            place=self.place.gather(1, index.cpu()),
            since=self.since[index[0].cpu()],
        )

    def bytes(self, entries: int) -> int:
        """Return the bytes of so many entries."""
        heads, _, width = self.keys.shape
        return 2 * heads * width * entries * self.keys.element_size()


class ScaleMemory:
    """Keys and values within a budget; rows may stand at different scales.

    Args:
        layers: number of attention layers.
        budget: what each of them keeps.

    Attributes:
        peak: the most bytes held between two passes.
        whole: the most that there would have been if nothing had been forgotten.
    """

    def __init__(self, layers: int, budget: CacheBudget) -> None:
        budget.check_layers(layers)
        self.layers = layers
        self.budget = budget
        self.rows: list[list[Kept | None]] = []
        self.peak = self.whole = 0
        self._places = Places()

    def admit(self, rows: Sequence[Row]) -> None:
        """Give every row a place."""
        self._places.admit(rows)
        self.rows += [[None] * self.layers for _ in rows]

    def release(self, rows: Sequence[Row]) -> None:
        """Take the rows' places back; the last row moves into a freed place."""
        for source, target in self._places.release(rows):
            self.rows[target] = self.rows[source]
            self.rows.pop()

    def read(self, rows: Sequence[Row], slots: Slots, visible: Visible) -> ScaleReading:
        """Open one pass of these rows; slots are [R, L]."""
        return ScaleReading(self, [row.slot for row in rows], slots, visible)

    def mark(self, row: Row) -> list[Kept | None]:
        """Return what each layer holds of the row."""
        return list(self.rows[row.slot])

    def rewind(self, row: Row, mark: list[Kept | None]) -> None:
        """Hold again what was held at the mark."""
        self.rows[row.slot] = list(mark)

    def keep(self, row: Row, layer: int, index: Tensor) -> None:
        """Keep only some entries of a row's layer, int64 [k] or [heads, k]."""
        held = self.rows[row.slot][layer]
        assert held is not None
        per_head = index if index.dim() == 2 else index.expand(len(held.keys), -1)
        self.rows[row.slot][layer] = held.only(per_head.to(held.keys.device))

    def bytes(self) -> int:
        """Return the bytes held."""
        return sum(held.bytes(len(held)) for row in self.rows for held in row if held)

    def looked(self, layer: int, query: Tensor, keys: Tensor, scale: float | None) -> None:
        """Hear what a layer attends to: nothing is done with it here.

        Args:
            query: float [R, heads, L, d].
            keys: float [R, heads, K, d], what is held and then what is new.
            scale: of the scores; None: 1 / sqrt(d).
        """

    def count(self) -> None:
        """Take note of what is held now."""
        whole = sum(held.bytes(held.total) for row in self.rows for held in row if held)
        self.peak, self.whole = max(self.peak, self.bytes()), max(self.whole, whole)


class ScaleReading:
    """One pass; every layer forgets as soon as it has attended."""

    def __init__(
        self, memory: ScaleMemory, rows: list[int], slots: Slots, visible: Visible
    ) -> None:
        self.memory = memory
        self.rows = rows
        self.slots = slots
        self.visible = visible
        self._counts = slots.commit.sum(-1).tolist()
        self._queries: dict[int, Callable[[Tensor], Tensor]] = {}
        real = slots.since != ABSENT
        # all that was read before is then seen, and all that is read now
        self._plain = visible is up_to and bool(
            real.all() & (slots.since == slots.since[:, :1]).all()
        )

    def observe(self, layer: int, queries: Callable[[Tensor], Tensor]) -> None:
        """See `limner.core.memory.ObservingReading.observe`."""
        self._queries[layer] = queries

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
        held = [self.memory.rows[row][layer] for row in self.rows]
        keys = _joined([None if each is None else each.keys for each in held], key)
        values = _joined([None if each is None else each.values for each in held], value)
        self.memory.looked(layer, query, keys, scale)
        mask = self._mask(held, keys.shape[2])
        mixed = scaled_attention(query, keys, values, mask, scale, dropout)
        plain = self._queries.pop(layer, lambda slots: query[:, :, slots])

        def scored(slots: Tensor, row: int, keys: Tensor) -> Tensor:
            """Return the scores of a row's entries by the queries of some slots, [1, heads, n]."""
            if self.memory.budget.scores == "products":
                return product_scores(plain(slots)[row : row + 1], keys)
            return attention_scores(query[row : row + 1, :, slots], keys, scale)

        for index, (row, count) in enumerate(zip(self.rows, self._counts, strict=True)):
            if count:
                start = 0 if held[index] is None else len(held[index])  # type: ignore[arg-type]
                parts = keys[index, :, : start + count], values[index, :, : start + count]
                kept = self._with_new(held[index], index, count, parts)
                self.memory.rows[row][layer] = self._within(kept, layer, index, count, scored)
        return mixed

    def close(self) -> None:
        """Take note of the bytes held."""
        self.memory.count()

    def _with_new(
        self, held: Kept | None, index: int, count: int, parts: tuple[Tensor, Tensor]
    ) -> Kept:
        """Return what a row holds with the pass's first `count` slots added."""
        keys, values = parts
        since = self.slots.since[index, :count]
        place = self.slots.place[index, :count].expand(keys.shape[0], -1)
        if held is None:
            return Kept(keys, values, place, since, count)
        return Kept(
            keys,
            values,
            torch.cat([held.place, place], dim=1),
            torch.cat([held.since, since]),
            held.total + count,
            held.bounded,
        )

    def _within(
        self,
        kept: Kept,
        layer: int,
        index: int,
        count: int,
        scored: Callable[[Tensor, int, Tensor], Tensor],
    ) -> Kept:
        """Return what a layer keeps of a row after the pass."""
        budget, length = self.memory.budget, len(kept)
        if not kept.bounded and length <= budget.base:
            return kept
        kept = replace(kept, bounded=True)
        capacity = budget.after(int(kept.since[-1]), layer)
        if capacity is None or length <= capacity:
            return kept
        window = window_of(length, count, budget.window)
        start = length - count
        score = scored(window[window >= start] - start, index, kept.keys.unsqueeze(0))
        chosen = select(score, window, capacity, budget.kernel, budget.pooling)
        return kept.only(chosen[0])

    def _mask(self, held: Sequence[Kept | None], length: int) -> Tensor | None:
        """Return who sees whom, bool [R, 1, L, K]; None: all is seen."""
        starts = [0 if each is None else len(each) for each in held]
        if self._plain and len(set(starts)) == 1:
            return None
        since = torch.full((len(held), length), ABSENT)
        place = torch.zeros_like(since)
        copy = torch.zeros_like(since)
        for row, (each, start) in enumerate(zip(held, starts, strict=True)):
            new = slice(start, start + len(self.slots))
            if each is not None:
                since[row, :start], place[row, :start] = each.since, each.place[0]
            since[row, new], place[row, new] = self.slots.since[row], self.slots.place[row]
            copy[row, new] = self.slots.copy[row]
        keys = replace(self.slots, place=place, since=since, copy=copy)
        return as_heads(attention_mask(self.visible, self.slots, keys, torch.tensor(starts)))


def _joined(held: Sequence[Tensor | None], new: Tensor) -> Tensor:
    """Return rows [heads, n, d] followed by [R, heads, L, d], zeros where a row has fewer."""
    rows = [
        part if each is None else torch.cat([each, part], dim=1)
        for each, part in zip(held, new, strict=True)
    ]
    longest = max(row.shape[1] for row in rows)
    return torch.stack([functional.pad(row, (0, 0, 0, longest - row.shape[1])) for row in rows])


def keep_budgets_out_of_compilation() -> None:
    """Let compiled layers call the memory as it is.

    Its bookkeeping by row would be compiled anew at every step. Not a decorator on the methods:
    that would load the compiler whenever limner is imported.
    """
    for name in ("attend", "observe"):
        setattr(ScaleReading, name, torch.compiler.disable(getattr(ScaleReading, name)))
