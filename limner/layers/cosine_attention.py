"""VAR's attention: biased queries and values, and scores from directions rather than lengths.

Source: `SelfAttention` in models/basic_var.py of FoundationVision/VAR (arXiv:2404.02905).
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.memory import ObservingReading, Reading
from limner.layers.linear import Linear, linear
from limner.layers.rotary import rotate


class BiasedAttention(nn.Module):
    """Multi-head attention whose queries and values have a bias and whose keys have none.

    Scores are scaled by 0.25 / sqrt(d), a quarter of the usual.

    Args:
        width: in and out.
        heads: number of heads.
        layer: number under which keys and values are remembered.
    """

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.heads = heads
        self.layer = layer
        self.scale = 0.25 / math.sqrt(width // heads)
        self.qkv = Linear(width, 3 * width, bias=False)
        self.query_bias = nn.Parameter(torch.zeros(width))
        self.value_bias = nn.Parameter(torch.zeros(width))
        self.out = Linear(width, width)

    def forward(self, x: Tensor, reading: Reading, rotation: Tensor | None = None) -> Tensor:
        """Attend from float [R, L, width].

        Args:
            rotation: float [R or 1, 1, L, d / 2, 2], see `rotate`; None: positions are not turned.
        """
        bias = torch.cat([self.query_bias, torch.zeros_like(self.query_bias), self.value_bias])
        qkv = linear(x, self.qkv.weight, bias).unflatten(-1, (3, self.heads, -1))
        heads = qkv.permute(2, 0, 3, 1, 4)
        (query, key), value = self.compared(heads[:2]), heads[2]
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        if isinstance(reading, ObservingReading):
            reading.observe(self.layer, lambda slots: self.plain_queries(x[:, slots]))
        mixed = reading.attend(self.layer, query, key, value, self.scale)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out

    def plain_queries(self, x: Tensor) -> Tensor:
        """Return the queries of float [R, L, width] without their bias, float [R, heads, L, d]."""
        weight = self.qkv.weight[: x.shape[-1]]
        return functional.linear(x, weight).unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def compared(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Return queries and keys, float [2, R, heads, L, d], as scores are taken of them."""
        query, key = pair
        return query, key


class CosineAttention(BiasedAttention):
    """Queries and keys of length 1, each head with a learned scale of at most 100.

    Keys are remembered normalised.
    """

    LIMIT = math.log(100.0)

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__(width, heads, layer)
        self.scale = 1.0
        self.log_scale = nn.Parameter(torch.full((heads,), math.log(4.0)))

    def compared(self, pair: Tensor) -> tuple[Tensor, Tensor]:
        """Return unit queries times their head's scale, and unit keys."""
        # clamped where it is used: a weight above the limit keeps its value
        scale = self.log_scale.clamp(max=self.LIMIT).exp().reshape(-1, 1, 1)
        query, key = functional.normalize(pair, dim=-1)
        return query * scale, key
