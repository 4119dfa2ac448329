"""The map from a token's noise to its code: a flow that has the token's distribution at its end.

Liu et al., "Distilled Decoding 1: One-step Sampling of Image Auto-regressive Models with Flow
Matching", arXiv:2412.17153; its trajectories are not in the released code (microsoft/
distilled_decoding), so the field is derived here from the paper's definition.

On the way x_t = (1 - t) noise + t code the velocity is (E[code | x_t] - x_t) / (1 - t), and the
codes' posterior weights are softmax(log p - |x_t - t code|^2 / (2 (1 - t)^2)). In s = -log(1 - t)
the singular factor goes: dx/ds = E[code | x] - x. On the line the map is the quantile function.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.head import Turn

END = 14.0
"""s at which a token has arrived: 1 - t is then below 1e-6."""

STEPS = 200
"""Of the Runge-Kutta rule that walks to the end."""


def expected_code(x: Tensor, left: Tensor | float, logprob: Tensor, codes: Tensor) -> Tensor:
    """Return E[code | x_t = x], float [..., D].

    Args:
        x: float [..., D].
        left: 1 - t.
        logprob: float [..., V], of the codes.
        codes: float [V, D].
    """
    return _weights(x, left, logprob, codes) @ codes


def velocity(x: Tensor, time: Tensor | float, logprob: Tensor, codes: Tensor) -> Tensor:
    """Return the velocity dx/dt, float [..., D]; arguments as of `expected_code`."""
    return (expected_code(x, 1 - time, logprob, codes) - x) / (1 - time)


def walk(
    noise: Tensor, logprob: Tensor, codes: Tensor, end: float = END, steps: int = STEPS
) -> Tensor:
    """Return where noise is at s = `end`, float [..., D]: 1 - t = exp(-s).

    Args:
        noise: float [..., D], where it is at s = 0.
        logprob, codes: see `expected_code`.
    """
    x, step = noise, end / steps

    def slope(at: Tensor, s: float) -> Tensor:
        return expected_code(at, torch.tensor(-s, dtype=at.dtype).exp(), logprob, codes) - at

    for number in range(steps):
        s = number * step
        first = slope(x, s)
        second = slope(x + step / 2 * first, s + step / 2)
        third = slope(x + step / 2 * second, s + step / 2)
        fourth = slope(x + step * third, s + step)
        x = x + step / 6 * (first + 2 * second + 2 * third + fourth)
    return x


def arrived(x: Tensor, logprob: Tensor, codes: Tensor, end: float = END) -> Tensor:
    """Return the codes that noise has arrived at, int64 [...].

    Args:
        x: float [..., D], at s = `end`, see `walk`.
        logprob, codes: see `expected_code`.
    """
    left = torch.tensor(-end, dtype=x.dtype).exp()
    return _weights(x, left, logprob, codes).argmax(-1)


class FlowMap:
    """Draws the code that a token's own noise flows to: a `limner.heads.categorical.Sampler`.

    The noise is that of purpose "start" and of as many numbers as a code, so whoever knows it can
    learn what is drawn.

    Args:
        codes: float [V, D], what each code says.
        steps: of the solver.
    """

    def __init__(self, codes: Tensor, steps: int = STEPS) -> None:
        self.codes = codes.double()
        self.steps = steps

    def __call__(self, logprob: Tensor, turn: Turn) -> Tensor:
        """Return int64 [R, n] for float [R, n, V]."""
        wide, codes = logprob.double(), self.codes.to(logprob.device)
        noise = turn.noise("normal", "start", 0, (codes.shape[1],)).to(wide)
        return arrived(walk(noise, wide, codes, steps=self.steps), wide, codes)


def _weights(x: Tensor, left: Tensor | float, logprob: Tensor, codes: Tensor) -> Tensor:
    """Return the codes' posterior weights, float [..., V]."""
    time = 1 - left
    # |x - t c|^2 without |x|^2, which all codes share
    near = time * (x @ codes.T) - 0.5 * time**2 * codes.square().sum(-1)
    return (logprob + near / left**2).softmax(-1)
