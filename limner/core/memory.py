"""Memory: what a network keeps of earlier passes, and the attention that reads it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.row import Row
from limner.core.slots import ABSENT, Slots, Visible, attention_mask, everything
from limner.core.stretches import Stretches, stretches_of


class Reading(Protocol):
    """One pass through the network: layers attend through it, and it knows who sees whom."""

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """Attend over what is remembered and what this pass brings.

        Args:
            layer: number of the attention layer.
            query: float [R, heads, L, d]; key and value: float [R, key heads, L, d]. Keys are
                stored as they come: already normalised and rotated where the layer does so.
            scale: of the scores; None: 1 / sqrt(d).
            dropout: share of the attention weights left out.

        Returns:
            float [R, heads, L, d].
        """
        ...

    def close(self) -> None:
        """End the pass: what its slots commit stays, the rest is forgotten."""
        ...


@runtime_checkable
class ObservingReading(Protocol):
    """A pass that also wants to know what layers ask before they attend."""

    def observe(self, layer: int, queries: Callable[[Tensor], Tensor]) -> None:
        """Hear a layer's queries, for those whose scores are not taken of plain ones.

        Args:
            layer: number of the attention layer, which attends next.
            queries: int64 [w], slots of the pass -> their queries without biases, norms, scales
                and positions, float [R, heads, w, d].
        """
        ...


State = tuple[Tensor, ...]
"""What a recurrent layer carries on, each part [R, ...]; all zeros where nothing was read yet."""


class Recurrence(Protocol):
    """What a recurrent layer computes over a sequence."""

    def __call__(
        self, x: Tensor, state: State | None, counts: Tensor | None
    ) -> tuple[Tensor, State]:
        """Map float [R, L, D] to outputs [R, L, ...] and the state after them.

        Args:
            state: what the slots before left; None: there were none.
            counts: int64 [R], a row's slots from there on leave its state as it is, and their
                outputs are arbitrary; None: all slots enter.
        """
        ...


class RecurrentReading(Reading, Protocol):
    """A pass whose layers may also carry states from slot to slot, in the order of the slots."""

    def recur(self, layer: int, recurrence: Recurrence, x: Tensor) -> Tensor:
        """Run a recurrence on from what earlier passes left.

        Args:
            layer: number of the recurrent layer.
            recurrence: of that layer; it may be called more than once.
            x: float [R, L, D].

        Returns:
            The outputs, [R, L, ...]; arbitrary on padding.
        """
        ...


class Memory(Protocol):
    """Keys and values, recurrent states, convolution tails; or nothing."""

    def admit(self, rows: Sequence[Row]) -> None:
        """Give every row a place."""
        ...

    def release(self, rows: Sequence[Row]) -> None:
        """Take the rows' places back, and compact."""
        ...

    def read(self, rows: Sequence[Row], slots: Slots, visible: Visible) -> Reading:
        """Open one pass of these rows; slots are [R, L]."""
        ...

    def mark(self, row: Row) -> Any:
        """Return a mark of what the row remembers now."""
        ...

    def rewind(self, row: Row, mark: Any) -> None:
        """Forget what was committed since the mark."""
        ...

    def keep(self, row: Row, layer: int, index: Tensor) -> None:
        """Keep only these entries of a row's layer (an accepted draft path, an eviction)."""
        ...

    def bytes(self) -> int:
        """Return the bytes held."""
        ...


class NoMemory:
    """For training and for models that read everything in every pass."""

    def admit(self, rows: Sequence[Row]) -> None:
        """Number the rows."""
        for slot, row in enumerate(rows):
            row.slot = slot

    def release(self, rows: Sequence[Row]) -> None:
        """Do nothing."""

    def read(self, rows: Sequence[Row], slots: Slots, visible: Visible) -> Reading:
        """Open a pass whose slots see each other and nothing else."""
        return PassReading(seen_among(visible, slots))

    def mark(self, row: Row) -> Any:
        """Return nothing: there is nothing to mark."""
        return None

    def rewind(self, row: Row, mark: Any) -> None:
        """Do nothing."""

    def keep(self, row: Row, layer: int, index: Tensor) -> None:
        """Do nothing."""

    def bytes(self) -> int:
        """Return 0."""
        return 0


class PassReading:
    """The slots of one pass see each other, and nothing is remembered.

    Args:
        seen: bool [R or 1, 1, L, L], who sees whom; or the stretches that this comes to; None:
            every slot sees every slot.
    """

    def __init__(self, seen: Tensor | Stretches | None = None) -> None:
        self.seen = seen

    def attend(
        self,
        layer: int,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        scale: float | None = None,
        dropout: float = 0.0,
    ) -> Tensor:
        """See `Reading.attend`."""
        if isinstance(self.seen, Stretches):
            return stretched_attention(query, key, value, self.seen, scale, dropout)
        return scaled_attention(query, key, value, self.seen, scale, dropout)

    def recur(self, layer: int, recurrence: Recurrence, x: Tensor) -> Tensor:
        """See `RecurrentReading.recur`."""
        return recurrence(x, None, None)[0]

    def close(self) -> None:
        """Do nothing."""


def seen_among(visible: Visible, slots: Slots) -> Tensor | Stretches | None:
    """Return what slots see among themselves, as `PassReading` takes it.

    Rows whose slots are one and the same share one mask, or need none.
    """
    if visible is everything and not bool((slots.since == ABSENT).any()):
        return None
    stretches = stretches_of(visible, slots)
    if stretches is not None:
        return stretches
    slots = slots.row(0) if slots.shared else slots
    return as_heads(attention_mask(visible, slots, slots))


def as_heads(mask: Tensor) -> Tensor | None:
    """Return a mask [L, K] or [R, L, K] with a dimension for heads, or None if all is seen."""
    if bool(mask.all()):
        return None
    return mask[:, None] if mask.dim() == 3 else mask[None, None]


def scaled_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Tensor | None,
    scale: float | None = None,
    dropout: float = 0.0,
    causal: bool = False,
) -> Tensor:
    """Softmax attention over [R, heads, L, d]; fewer key heads than query heads are shared.

    Args:
        causal: every query sees the keys up to its own, without a mask.
    """
    grouped = query.shape[1] != key.shape[1]
    if mask is not None:
        mask = mask.to(query.device)
    return functional.scaled_dot_product_attention(
        query, key, value, mask, dropout, causal, scale=scale, enable_gqa=grouped
    )


def stretched_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    stretches: Stretches,
    scale: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """Softmax attention over [R, heads, L, d], stretch by stretch: nothing is masked or stored."""
    if stretches.single:
        return scaled_attention(query, key, value, None, scale, dropout, causal=True)
    parts = [
        scaled_attention(
            query[:, :, begin:end],
            key[:, :, first:end],
            value[:, :, first:end],
            None,
            scale,
            dropout,
        )
        for first, begin, end in stretches.bounds
    ]
    return torch.cat(parts, dim=2)
