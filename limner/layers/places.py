"""Places of rows in the buffers of a memory."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from limner.core.row import Row


class Places:
    """Which row holds which place; places are numbered without gaps, in `Row.slot`."""

    def __init__(self) -> None:
        self._rows: list[Row] = []

    def __len__(self) -> int:
        return len(self._rows)

    def admit(self, rows: Sequence[Row]) -> None:
        """Give every row the next free place."""
        for row in rows:
            row.slot = len(self._rows)
            self._rows.append(row)

    def release(self, rows: Sequence[Row]) -> Iterator[tuple[int, int]]:
        """Take the rows' places back; the last row moves into a freed place.

        Yields:
            A place whose contents are to be moved (the last one, free afterwards), and where to:
            the same place if nothing moves.
        """
        # from the last place on: what is released too is then never moved
        for row in sorted(rows, key=lambda row: row.slot, reverse=True):
            last = self._rows.pop()
            yield last.slot, row.slot
            if last is not row:
                self._rows[row.slot] = last
                last.slot = row.slot
            row.slot = -1


def grown(buffer: Tensor, rows: int) -> Tensor:
    """Return a buffer [places, ...] with zeros in new places up to `rows`."""
    if rows <= buffer.shape[0]:
        return buffer
    # zeros, not empty: masked scores must not meet NaN
    more = buffer.new_zeros(rows - buffer.shape[0], *buffer.shape[1:])
    return torch.cat([buffer, more]) if len(buffer) else more
