"""Solvers against flows whose ends are known in closed form."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from limner.heads.solvers import SOLVERS, TIMES, flowar_times, late_times, uniform_times

MEAN, SPREAD = 1.5, 0.4


def gaussian_velocity(x: Tensor, time: Tensor) -> Tensor:
    """The velocity of the flow to N(MEAN, SPREAD^2): its way takes noise e to MEAN + SPREAD e."""
    t = time.to(x).reshape(-1, 1, 1)
    variance = ((1 - t) * SPREAD) ** 2 + t**2
    off = (x - (1 - t) * MEAN) / variance
    return t * off - (MEAN + (1 - t) * SPREAD**2 * off)


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def no_noise(inner: int) -> Tensor:
    raise AssertionError("a deterministic solver asked for noise")


def error(solver: str, steps: int) -> float:
    noise = normal(1, 200, 1)
    times = uniform_times(steps).unsqueeze(1)
    drawn = SOLVERS[solver](gaussian_velocity, noise, times, no_noise)
    return float((drawn - (MEAN + SPREAD * noise)).abs().max())


@pytest.mark.parametrize(
    ("solver", "order", "bound"), [("euler", 1, 2e-2), ("heun", 2, 1e-3), ("midpoint", 2, 1e-3)]
)
def test_errors_fall_by_the_order(solver: str, order: int, bound: float) -> None:
    """Doubling the steps halves the error of Euler and quarters those of the others, or better."""
    coarse, fine = error(solver, 100), error(solver, 200)
    assert fine < bound
    assert coarse / fine > 0.9 * 2**order


def test_the_stochastic_walk_ends_in_the_same_distribution() -> None:
    """Bounds: 5 standard errors of 20,000 draws, plus 0.01 for 200 steps."""
    count, calls = 20_000, []

    def noise(inner: int) -> Tensor:
        calls.append(inner)
        return normal(1, count, 1, seed=1 + inner)

    times = late_times(200).unsqueeze(1)
    drawn = SOLVERS["euler-maruyama"](gaussian_velocity, normal(1, count, 1), times, noise)
    assert calls == list(range(199))  # the step to 0 adds none
    assert abs(drawn.mean() - MEAN) < 5 * SPREAD / count**0.5 + 0.01
    assert abs(drawn.std() - SPREAD) < 5 * SPREAD / (2 * count) ** 0.5 + 0.01


@pytest.mark.parametrize("solver", ["euler", "heun", "midpoint", "euler-maruyama"])
def test_a_row_with_fewer_steps_stands_still(solver: str) -> None:
    short, long = uniform_times(3), uniform_times(7)
    waiting = torch.cat([short, short[-1:].expand(4)])
    start = normal(2, 5, 1)

    def noise_of(rows: slice) -> Callable[[int], Tensor]:
        return lambda inner: normal(2, 5, 1, seed=inner)[rows]

    walk = SOLVERS[solver]
    both = walk(
        gaussian_velocity, start, torch.stack([waiting, long], dim=1), noise_of(slice(None))
    )
    first = walk(gaussian_velocity, start[:1], short.unsqueeze(1), noise_of(slice(0, 1)))
    second = walk(gaussian_velocity, start[1:], long.unsqueeze(1), noise_of(slice(1, 2)))
    torch.testing.assert_close(both, torch.cat([first, second]))


@pytest.mark.parametrize("name", TIMES)
@pytest.mark.parametrize("steps", [2, 7, 24, 50])
def test_times_fall_from_1_to_0(name: str, steps: int) -> None:
    times = TIMES[name](steps)
    assert times[0] == 1 and times[-1] == 0 and bool((times.diff() < 0).all())


def test_flowar_loses_an_odd_step_and_50_are_equal() -> None:
    assert len(flowar_times(25)) == len(flowar_times(24)) == 25
    assert torch.equal(flowar_times(50), uniform_times(50))
    assert int((flowar_times(24)[:-1] <= 0.25).sum()) == 12
