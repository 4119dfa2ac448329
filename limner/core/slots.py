"""Slots: what one network pass reads, and who sees whom.

A slot is one position of one pass. It has the place of a token (or of the prefix), and the step at
which its content is known; every attention mask of limner follows from those two by a named
relation, so no model builds a mask by hand.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

ABSENT = -(2**40)
"""`since` of a slot that only takes a place (padding): seen by no slot but itself."""


@dataclass(frozen=True, eq=False)
class Slots:
    """Slots of one row, or of a batch of rows (every field then has a leading R).

    All fields live on the CPU: they steer the pass, they are not computed with.

    Args:
        place: int64 [L], index of the token whose place the slot has; a prefix of T conditions
            stands at -T .. -1.
        since: int64 [L], step at which the slot's content is known; ABSENT for padding.
        copy: int64 [L], 0 for clean content, 1 for the noisy copy being drawn.
        commit: bool [L], kept in memory after the pass; committed slots come first.
        speaks: int64 [M, 3], slot, head and token: the output of `head` at `slot` speaks for
            `token`; several entries for one token are averaged. Token -1 is padding.
    """

    place: Tensor
    since: Tensor
    copy: Tensor
    commit: Tensor
    speaks: Tensor

    @staticmethod
    def of(
        place: Tensor,
        since: Tensor,
        speaks: Tensor,
        copy: Tensor | int = 0,
        commit: Tensor | bool = True,
    ) -> Slots:
        """Build slots of one row, filling in a constant `copy` and `commit`."""
        if not isinstance(copy, Tensor):
            copy = torch.full_like(place, copy)
        if not isinstance(commit, Tensor):
            commit = torch.full(place.shape, commit, dtype=torch.bool)
        return Slots(place, since, copy, commit, speaks)

    def __len__(self) -> int:
        return self.place.shape[-1]

    @property
    def shared(self) -> bool:
        """True for a batch whose rows are one and the same."""
        return self.place.dim() == 2 and (len(self.place) == 1 or self.place.stride(0) == 0)

    def row(self, index: int) -> Slots:
        """Return the slots of one row of a batch, padding included."""
        return Slots(*(field[index] for field in _fields(self)))

    def scratch(self) -> Slots:
        """Return the slots of one row that are not committed (a solver's later inner passes)."""
        keep = (~self.commit).nonzero().squeeze(-1)
        renumber = torch.full((len(self),), -1)
        renumber[keep] = torch.arange(len(keep))
        speaks = self.speaks.clone()
        speaks[:, 0] = renumber[speaks[:, 0]]
        return Slots(
            self.place[keep],
            self.since[keep],
            self.copy[keep],
            self.commit[keep],
            speaks[speaks[:, 0] >= 0],
        )


def concatenate(parts: Sequence[Slots]) -> Slots:
    """Join the slots of several steps of one row: teacher forcing is all steps in one pass."""
    offsets = torch.tensor([0] + [len(part) for part in parts[:-1]]).cumsum(0).tolist()
    speaks = [
        part.speaks + torch.tensor([offset, 0, 0])
        for part, offset in zip(parts, offsets, strict=True)
    ]
    return Slots(
        torch.cat([part.place for part in parts]),
        torch.cat([part.since for part in parts]),
        torch.cat([part.copy for part in parts]),
        torch.cat([part.commit for part in parts]),
        torch.cat(speaks),
    )


def batch(rows: Sequence[Slots]) -> Slots:
    """Stack the slots of several rows to [R, L], padding short rows with absent slots."""
    first = rows[0]
    if all(row is first for row in rows):
        return Slots(*(field.expand(len(rows), *field.shape) for field in _fields(first)))
    length = max(len(row) for row in rows)
    spoken = max(len(row.speaks) for row in rows)
    return Slots(
        torch.stack([_pad(row.place, length, 0) for row in rows]),
        torch.stack([_pad(row.since, length, ABSENT) for row in rows]),
        torch.stack([_pad(row.copy, length, 0) for row in rows]),
        torch.stack([_pad(row.commit, length, False) for row in rows]),
        torch.stack([_pad_speaks(row.speaks, spoken) for row in rows]),
    )


def _fields(slots: Slots) -> tuple[Tensor, ...]:
    return slots.place, slots.since, slots.copy, slots.commit, slots.speaks


def _pad(field: Tensor, length: int, value: int | bool) -> Tensor:
    return torch.nn.functional.pad(field, (0, length - len(field)), value=value)


def _pad_speaks(speaks: Tensor, length: int) -> Tensor:
    padding = torch.tensor([[0, 0, -1]]).expand(length - len(speaks), 3)
    return torch.cat([speaks, padding])


Visible = Callable[[Slots, Slots], Tensor]
"""A relation: (queries [.., Lq], keys [.., Lk]) -> bool [.., Lq, Lk], True where seen."""


def up_to(queries: Slots, keys: Slots) -> Tensor:
    """A slot sees what is known at its own step or earlier (causal, block-bidirectional)."""
    return keys.since.unsqueeze(-2) <= queries.since.unsqueeze(-1)


def before(queries: Slots, keys: Slots) -> Tensor:
    """A slot sees only what is known earlier than itself."""
    return keys.since.unsqueeze(-2) < queries.since.unsqueeze(-1)


def within(queries: Slots, keys: Slots) -> Tensor:
    """A slot sees only what becomes known with it (M-VAR's intra-scale attention)."""
    return keys.since.unsqueeze(-2) == queries.since.unsqueeze(-1)


def before_or_self(queries: Slots, keys: Slots) -> Tensor:
    """A slot sees what is known earlier, and itself (Distilled Decoding's student)."""
    same = keys.place.unsqueeze(-2) == queries.place.unsqueeze(-1)
    return before(queries, keys) | (same & within(queries, keys))


def skip_causal(queries: Slots, keys: Slots) -> Tensor:
    """Clean copies are seen from their step on; a noisy copy only within its own block (ACDiT)."""
    clean = (keys.copy == 0).unsqueeze(-2)
    noisy_query = (queries.copy == 1).unsqueeze(-1)
    return torch.where(clean, up_to(queries, keys), within(queries, keys) & noisy_query)


def everything(queries: Slots, keys: Slots) -> Tensor:
    """Every slot sees every slot (masked, bidirectional models)."""
    shape = (*queries.since.shape, keys.since.shape[-1])
    return torch.ones(shape, dtype=torch.bool)


def attention_mask(
    visible: Visible, queries: Slots, keys: Slots, offset: int | Tensor = 0
) -> Tensor:
    """Return bool [.., Lq, Lk]: the relation, without absent keys, and every slot sees itself.

    Args:
        offset: index among the keys at which the queries' own keys begin, one for all rows or
            int64 [R].
    """
    seen = visible(queries, keys) & (keys.since != ABSENT).unsqueeze(-2)
    own = torch.arange(len(queries)) + torch.as_tensor(offset).unsqueeze(-1)
    # padding may reach past the keys: it sees the last one
    own = own.clamp(max=seen.shape[-1] - 1).expand(seen.shape[:-1]).unsqueeze(-1)
    return seen.scatter(-1, own, True)
