"""A score that is measured several times."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True)
class Score:
    """Mean and standard deviation over the parts that a set was divided into.

    Args:
        mean: over the parts.
        deviation: of the parts.
    """

    mean: float
    deviation: float


def score_of(parts: Tensor, correction: int = 0) -> Score:
    """Return the score of float64 values [S]; `correction` as in `torch.std`."""
    return Score(float(parts.mean()), float(parts.std(correction=correction)))
