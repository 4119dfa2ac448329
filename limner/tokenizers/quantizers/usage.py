"""How many codes are used, and how evenly."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True)
class Usage:
    """Use of a codebook.

    Args:
        share: of the codes that occur, 0 to 1.
        perplexity: number of codes that would carry as much if all were used evenly; 1 to V.
    """

    share: float
    perplexity: float


def usage(ids: Tensor, codebook_size: int) -> Usage:
    """Return how ids of any shape use a codebook; ids of -1 are passed over."""
    counts = torch.bincount(ids[ids >= 0].flatten(), minlength=codebook_size).double()
    chances = counts / counts.sum().clamp(min=1)
    entropy = -torch.xlogy(chances, chances).sum()
    return Usage(float((counts > 0).sum()) / codebook_size, float(entropy.exp()))
