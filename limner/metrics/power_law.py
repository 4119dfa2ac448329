"""Power laws y = factor x^exponent, as scaling laws are reported.

They are straight lines in the logarithms, fitted by least squares; Kaplan et al., "Scaling Laws for
Neural Language Models", arXiv:2001.08361, and Tian et al., arXiv:2404.02905, section 4.2.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from limner.core.errors import DataError

LEAST = 3
"""Points of a fit: a line goes through any two."""

Point = tuple[float, float]


@dataclass(frozen=True)
class PowerLaw:
    """y = factor x^exponent.

    Args:
        exponent: below 0 where y falls.
        factor: y at x = 1.
        correlation: of log x and log y; -1 or 1 where all points lie on the line, NaN where y never
            changes.
        error: standard error of the exponent.
        points: number of points that it was fitted to.
    """

    exponent: float
    factor: float
    correlation: float
    error: float
    points: int

    def at(self, x: float) -> float:
        """Return y at x."""
        return self.factor * x**self.exponent


def fit_power_law(points: Sequence[Point]) -> PowerLaw:
    """Fit a power law to points (x, y).

    Raises:
        DataError: fewer than three points of different x, or one that has no logarithm.
    """
    values = torch.tensor(points, dtype=torch.float64).reshape(-1, 2)
    if not bool((values.isfinite() & (values > 0)).all()):
        raise DataError("a power law needs points above 0 on both axes")
    if len(values[:, 0].unique()) < LEAST:
        raise DataError(f"a power law needs {LEAST} points of different x or more")
    x, y = values.log().unbind(1)
    x, middle = x - x.mean(), y.mean()
    spread = x.square().sum()
    exponent = float((x * y).sum() / spread)
    rest = y - middle - exponent * x
    deviation = (y - middle).square().sum()
    variance = rest.square().sum() / (len(values) - 2)
    return PowerLaw(
        exponent,
        math.exp(float(middle) - exponent * float(values[:, 0].log().mean())),
        float((x * y).sum() / (spread * deviation).sqrt()),
        float((variance / spread).sqrt()),
        len(values),
    )


def pareto_frontier(points: Sequence[Point]) -> list[Point]:
    """Return the points (x, y) that no other reaches with less of either, by growing x."""
    frontier: list[Point] = []
    for x, y in sorted(points):
        if not frontier or y < frontier[-1][1]:
            frontier.append((x, y))
    return frontier
