"""Tokens: what is drawn or given so far, for a batch of sequences of one layout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.layout import Layout


@dataclass
class Tokens:
    """Contents of a batch of sequences that share a layout.

    Args:
        layout: where the tokens stand; N = len(layout).
        ids: int64 [B, N, C], one code (C = 1), C sub-codes or C bits a place; or None.
        values: float [B, N, D]; mixed layouts have both; or None.
        known: bool [B, N], drawn or given; previews and masked models read this.
    """

    layout: Layout
    ids: Tensor | None
    values: Tensor | None
    known: Tensor

    def __len__(self) -> int:
        return self.known.shape[0]

    def row(self, index: int) -> Tokens:
        """Return sequence `index` as a batch of one that shares memory with this one."""
        return self.part(slice(index, index + 1))

    def part(self, rows: slice | Tensor) -> Tokens:
        """Return some sequences as a batch, of a slice one that shares memory with this one.

        Args:
            rows: which; or int64 [n].
        """
        return Tokens(
            self.layout,
            None if self.ids is None else self.ids[rows],
            None if self.values is None else self.values[rows],
            self.known[rows],
        )

    def clone(self) -> Tokens:
        """Return a copy that shares no memory."""
        return Tokens(
            self.layout,
            None if self.ids is None else self.ids.clone(),
            None if self.values is None else self.values.clone(),
            self.known.clone(),
        )

    def to(self, device: torch.device | str) -> Tokens:
        """Return the same tokens on another device."""
        return Tokens(
            self.layout,
            None if self.ids is None else self.ids.to(device),
            None if self.values is None else self.values.to(device),
            self.known.to(device),
        )


def empty(
    layout: Layout,
    batch: int = 1,
    codes: int = 0,
    width: int = 0,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
) -> Tokens:
    """Return tokens of which none is known.

    Args:
        codes: C of the ids; 0 for a layout without ids.
        width: D of the values; 0 for a layout without values.
    """
    count = len(layout)
    return Tokens(
        layout,
        torch.zeros(batch, count, codes, dtype=torch.int64, device=device) if codes else None,
        torch.zeros(batch, count, width, dtype=dtype, device=device) if width else None,
        torch.zeros(batch, count, dtype=torch.bool, device=device),
    )


def from_ids(layout: Layout, ids: Tensor) -> Tokens:
    """Return fully known tokens from int64 ids [B, N] or [B, N, C]."""
    ids = ids if ids.dim() == 3 else ids.unsqueeze(-1)
    return Tokens(layout, ids, None, torch.ones(ids.shape[:2], dtype=torch.bool, device=ids.device))


def from_values(layout: Layout, values: Tensor) -> Tokens:
    """Return fully known tokens from float values [B, N, D]."""
    known = torch.ones(values.shape[:2], dtype=torch.bool, device=values.device)
    return Tokens(layout, None, values, known)


def stack(batches: Sequence[Tokens]) -> Tokens:
    """Join batches of one layout, which hold ids and values alike, along the batch dimension."""
    first = batches[0]
    if len(batches) == 1:
        return first
    return Tokens(
        first.layout,
        None if first.ids is None else torch.cat([part.ids for part in batches]),  # type: ignore[misc]
        None if first.values is None else torch.cat([part.values for part in batches]),  # type: ignore[misc]
        torch.cat([part.known for part in batches]),
    )
