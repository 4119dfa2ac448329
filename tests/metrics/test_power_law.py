"""A known power law is recovered exactly; what has none is refused."""

from __future__ import annotations

import math
import random

import pytest

from limner.core.errors import DataError
from limner.metrics.power_law import fit_power_law, pareto_frontier


@pytest.mark.parametrize(("factor", "exponent"), [(2.5, -0.2), (490.0, -0.016), (1e-3, 0.7)])
def test_a_known_law_is_recovered_exactly(factor: float, exponent: float) -> None:
    law = fit_power_law([(x, factor * x**exponent) for x in (3e4, 1e5, 7e6, 2e9)])
    assert law.factor == pytest.approx(factor, rel=1e-10)
    assert law.exponent == pytest.approx(exponent, rel=1e-10)
    assert law.correlation == pytest.approx(math.copysign(1, exponent), abs=1e-12)
    assert law.error < 1e-9 and law.points == 4
    assert law.at(1e6) == pytest.approx(factor * 1e6**exponent)


def test_noise_lowers_the_correlation_and_the_error_covers_it() -> None:
    rng = random.Random(0)
    xs = [10.0**power for power in range(3, 23)]
    law = fit_power_law([(x, 5 * x**-0.1 * math.exp(rng.gauss(0, 0.05))) for x in xs])
    assert abs(law.exponent + 0.1) < 3 * law.error < 0.02
    assert -1 < law.correlation < -0.9


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        ([(1.0, 1.0), (2.0, 1.0)], "3 points of different x"),
        ([(1.0, 1.0), (1.0, 2.0), (1.0, 3.0)], "3 points of different x"),
        ([(1.0, 1.0), (2.0, 0.0), (3.0, 1.0)], "above 0"),
        ([(1.0, 1.0), (2.0, math.nan), (3.0, 1.0)], "above 0"),
        ([], "3 points of different x"),
    ],
)
def test_what_has_no_power_law(points: list[tuple[float, float]], expected: str) -> None:
    with pytest.raises(DataError, match=expected):
        fit_power_law(points)


def test_nothing_on_the_frontier_is_reached_with_less() -> None:
    rng = random.Random(1)
    points = [(rng.random(), rng.random()) for _ in range(200)]
    best = pareto_frontier(points)
    expected = [
        p
        for p in sorted(points)
        if not any(q != p and q[0] <= p[0] and q[1] <= p[1] for q in points)
    ]
    assert best == expected
