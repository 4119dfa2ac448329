"""Solvers that walk a flow from noise to data, every row on times of its own.

The flow is x_t = (1 - t) data + t noise with velocity noise - data; time falls from 1 to 0. A row
whose times repeat stands still, so rows with fewer steps walk along with others.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch
from torch import Tensor

Velocity = Callable[[Tensor, Tensor], Tensor]
"""(x [R, n, D], time [R]) -> velocity [R, n, D]."""

Normal = Callable[[int], Tensor]
"""Number of the step -> standard normal noise [R, n, D]."""

Solver = Callable[[Velocity, Tensor, Tensor, Normal], Tensor]
"""(velocity, x at the first time, times [S + 1, R], noise) -> x at the last time."""


def euler(velocity: Velocity, x: Tensor, times: Tensor, noise: Normal) -> Tensor:
    """Follow the velocity at the beginning of every step."""
    for now, then in pairwise(times):
        x = x + _broad(then - now, x) * velocity(x, now)
    return x


def heun(velocity: Velocity, x: Tensor, times: Tensor, noise: Normal) -> Tensor:
    """Follow the mean of the velocities at both ends of every step (second order)."""
    for now, then in pairwise(times):
        step, first = _broad(then - now, x), velocity(x, now)
        x = x + step * (first + velocity(x + step * first, then)) / 2
    return x


def midpoint(velocity: Velocity, x: Tensor, times: Tensor, noise: Normal) -> Tensor:
    """Follow the velocity in the middle of every step (second order)."""
    for now, then in pairwise(times):
        step = _broad(then - now, x)
        x = x + step * velocity(x + step / 2 * velocity(x, now), (now + then) / 2)
    return x


def euler_maruyama(velocity: Velocity, x: Tensor, times: Tensor, noise: Normal) -> Tensor:
    """Walk the stochastic equation that has the flow's distributions, with diffusion 2 t.

    The drift is v - w score / 2 with w = 2 t and score = ((t - 1) v - x) / t. The step that ends
    at time 0 adds no noise (SiT, arXiv:2401.08740; xAR's sampler).
    """
    for index, (now, then) in enumerate(pairwise(times)):
        step, time = _broad(then - now, x), _broad(now, x)
        drift = (2 - time) * velocity(x, now) + x
        spread = (2 * time * step.abs()).sqrt() * (_broad(then, x) > 0)
        x = x + step * drift
        if bool((then > 0).any()):
            x = x + spread * noise(index).to(x)
    return x


SOLVERS: dict[str, Solver] = {
    "euler": euler,
    "heun": heun,
    "midpoint": midpoint,
    "euler-maruyama": euler_maruyama,
}


def uniform_times(steps: int) -> Tensor:
    """Return equal steps from 1 to 0, float64 [steps + 1]."""
    return torch.linspace(1.0, 0.0, steps + 1, dtype=torch.float64)


def flowar_times(steps: int) -> Tensor:
    """Return FlowAR's times: half of the steps from 1 to 0.3, half from 0.25 to 0, float64.

    An odd number of steps loses one, and 50 steps are equal ones, as in the released code
    (models/sampler.py).
    """
    if steps == 50:
        return uniform_times(steps)
    half = steps // 2
    early = torch.linspace(1.0, 0.3, half, dtype=torch.float64)
    return torch.cat([early, torch.linspace(0.25, 0.0, half + 1, dtype=torch.float64)])


def late_times(steps: int, last: float = 0.04) -> Tensor:
    """Return equal steps from 1 to `last`, then one to 0, float64 [steps + 1].

    The score of `euler_maruyama` is large near 0 (SiT, xAR).
    """
    early = torch.linspace(1.0, last, steps, dtype=torch.float64)
    return torch.cat([early, early.new_zeros(1)])


TIMES: dict[str, Callable[[int], Tensor]] = {
    "uniform": uniform_times,
    "flowar": flowar_times,
    "late": late_times,
}


def _broad(per_row: Tensor, x: Tensor) -> Tensor:
    """Return numbers [R] as they multiply x [R, n, D]."""
    return per_row.to(x).reshape(-1, *[1] * (x.dim() - 1))
