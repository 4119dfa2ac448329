"""How many codes are used, and how evenly; over a whole set, not as a mean over pictures."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check
from limner.metrics.accumulator import Accumulator


@dataclass(frozen=True)
class Usage:
    """Use of a codebook.

    Args:
        share: of the codes that occur, 0 to 1.
        perplexity: number of codes that would carry as much if all were used evenly; 1 to V.
    """

    share: float
    perplexity: float

    @property
    def entropy(self) -> float:
        """Entropy of the codes, in bits."""
        return math.log2(self.perplexity)


class CodeCounts(Accumulator):
    """Counts codes batch by batch.

    Args:
        codebook_size: V, number of codes.

    Attributes:
        counts: int64 [V].
    """

    gathered = ("counts",)

    def __init__(self, codebook_size: int) -> None:
        check(codebook_size > 0, "codebook_size", codebook_size, "at least 1")
        self.counts = torch.zeros(codebook_size, dtype=torch.int64)

    def update(self, ids: Tensor) -> None:
        """Count ids of any shape, int64; ids of -1 are passed over.

        Raises:
            ConfigError: an id is outside the codebook.
        """
        size = len(self.counts)
        kept = ids[ids >= 0].flatten()
        largest = int(kept.max()) if kept.numel() else 0
        check(largest < size, "ids", largest, f"below the codebook's size, {size}")
        self.counts += torch.bincount(kept, minlength=size).cpu()

    def compute(self) -> Usage:
        """Return the use of the codebook by all that was counted."""
        chances = self.counts.double() / self.counts.sum().clamp(min=1)
        entropy = -torch.xlogy(chances, chances).sum()
        share = float((self.counts > 0).sum()) / len(self.counts)
        return Usage(share, float(entropy.exp()))


def usage(ids: Tensor, codebook_size: int) -> Usage:
    """Return how ids of any shape use a codebook; ids of -1 are passed over."""
    counts = CodeCounts(codebook_size)
    counts.update(ids)
    return counts.compute()
