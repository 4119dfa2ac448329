"""DPM-Solver++ of second order: few large steps along a diffusion chain (arXiv:2211.01095).

The chain's noise-to-signal ratio s falls to 0; a state is x = a clean + a s noise with
a = 1 / sqrt(1 + s^2). As in `DPMSolverMultistepScheduler` of diffusers 0.31.0 with its defaults
(midpoint, linspace spacing, first order at both ends): what ACDiT samples with.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limner.core.errors import check
from limner.heads.gaussian import GaussianTables

Noise = Callable[[Tensor, Tensor], Tensor]
"""(x [R, ...], step of the full chain, int64 [R]) -> the noise in x."""


def linspace_timesteps(chain: int, steps: int) -> Tensor:
    """Return the steps of a chain that are walked, noisiest first, int64 [steps].

    Raises:
        ConfigError: more steps than the chain has.
    """
    check(0 < steps < chain, "steps", steps, f"from 1 to {chain - 1}")
    spaced = torch.arange(1, steps + 1, dtype=torch.float64) * ((chain - 1) / steps)
    spaced[-1] = chain - 1
    return spaced.round().long().flip(0)


def noise_ratios(tables: GaussianTables, timesteps: Tensor) -> Tensor:
    """Return noise over signal at those steps, then 0, float64 [steps + 1]."""
    share = tables.share[timesteps]
    return torch.cat([((1 - share) / share).sqrt(), share.new_zeros(1)])


def dpm_solver(noise: Noise, x: Tensor, tables: GaussianTables, steps: Sequence[int]) -> Tensor:
    """Walk from noise to data; rows with fewer steps stand still at their end.

    Args:
        noise: tells the noise in a state.
        x: float [R, ...], white noise.
        tables: of the full chain.
        steps: of every row.

    Returns:
        The data, float [R, ...].
    """
    walks = [linspace_timesteps(len(tables), count) for count in steps]
    longest = max(steps)
    times = torch.stack([_padded(walk, longest) for walk in walks], dim=1)
    ratios = torch.stack(
        [_padded(noise_ratios(tables, walk), longest + 1) for walk in walks], dim=1
    )
    scale = (1 + ratios.square()).rsqrt()

    def broad(numbers: Tensor) -> Tensor:
        return numbers.to(x).reshape(-1, *[1] * (x.dim() - 1))

    before = x
    for index in range(longest):
        now, then = ratios[index], ratios[index + 1]
        told = noise(x, times[index])
        clean = x / broad(scale[index]) - broad(now) * told
        kept = torch.where(now > 0, then / now, 1.0)  # 1: this row has come to its end
        added = scale[index + 1] * (1 - kept)
        x = broad(kept * scale[index + 1] / scale[index]) * x + broad(added) * clean
        if index:
            stride = (now / then).log() / (ratios[index - 1] / now).log()
            slope = torch.where(then > 0, added * stride / 2, 0.0)
            x = x + broad(slope) * (clean - before)
        before = clean
    return x


def _padded(numbers: Tensor, length: int) -> Tensor:
    """Repeat the last of numbers [n] up to `length`."""
    return torch.cat([numbers, numbers[-1:].expand(length - len(numbers))])
