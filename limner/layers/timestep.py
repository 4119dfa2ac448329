"""Embeddings of a diffusion or flow time."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn


def sinusoid(time: Tensor, width: int, longest: float = 10000.0) -> Tensor:
    """Return cos(t f_j), then sin(t f_j), with f_j = longest^(-j / half), float32 [..., width].

    It is computed in float32 and in this order of operations whatever the model's dtype is:
    networks are trained with its rounding (at t = 999 it shows in the fourth digit of the sine).
    Processors may still round the exponential differently, which shows at times of 1e6: see
    limner/cli/verify.py.

    Args:
        time: int or float [...].
        width: even.
    """
    half = width // 2
    exponent = torch.arange(half, dtype=torch.float32, device=time.device)
    angle = time.float().unsqueeze(-1) * torch.exp(-math.log(longest) * exponent / half)
    return torch.cat([angle.cos(), angle.sin()], dim=-1)


class TimestepEmbedding(nn.Module):
    """A sinusoid through a small MLP.

    Args:
        width: out.
        frequencies: width of the sinusoid.
    """

    def __init__(self, width: int, frequencies: int = 256) -> None:
        super().__init__()
        self.frequencies = frequencies
        self.into = nn.Linear(frequencies, width)
        self.out = nn.Linear(width, width)

    def initialise(self) -> None:
        """Weights N(0, 0.02), biases as they are."""
        nn.init.normal_(self.into.weight, std=0.02)
        nn.init.normal_(self.out.weight, std=0.02)

    def forward(self, time: Tensor) -> Tensor:
        """Embed times [...] as float [..., width]."""
        waves = sinusoid(time, self.frequencies).to(self.into.weight.dtype)
        out: Tensor = self.out(nn.functional.silu(self.into(waves)))
        return out
