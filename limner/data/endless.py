"""An order without end that can be picked up anywhere."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.seeds import seeded


class EndlessOrder:
    """One shuffle of 0 .. count - 1 after another, by position.

    Position p is number p mod count of the shuffle of epoch p div count, which depends on the seed
    and the epoch alone: a position is all there is to save.

    Args:
        count: N.
        seed: of the shuffles.
        shuffle: False: every epoch in rising order.
    """

    def __init__(self, count: int, seed: int, shuffle: bool = True) -> None:
        self.count = count
        self.seed = seed
        self.shuffle = shuffle
        self._epoch = -1
        self._order = torch.empty(0, dtype=torch.int64)

    def epoch(self, number: int) -> Tensor:
        """Return the order of an epoch, int64 [N]."""
        if number != self._epoch:
            rng = seeded(self.seed, "order", number)
            count = self.count
            self._order = (
                torch.randperm(count, generator=rng) if self.shuffle else torch.arange(count)
            )
            self._epoch = number
        return self._order

    def take(self, begin: int, count: int) -> Tensor:
        """Return what stands at positions begin .. begin + count - 1, int64 [count]."""
        parts = [torch.empty(0, dtype=torch.int64)]
        while count > 0:
            epoch, place = divmod(begin, self.count)
            parts.append(self.epoch(epoch)[place : place + count])
            begin, count = begin + len(parts[-1]), count - len(parts[-1])
        return torch.cat(parts)
