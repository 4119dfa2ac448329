"""Self-attention that remembers through a `Reading`."""

from __future__ import annotations

from torch import Tensor, nn

from limner.core.memory import Reading
from limner.layers.linear import Linear
from limner.layers.rotary import rotate


class SelfAttention(nn.Module):
    """Multi-head attention with a fused projection to queries, keys and values.

    Keys are remembered rotated.

    Args:
        width: in and out.
        heads: number of heads.
        layer: number under which keys and values are remembered.
        bias: of both projections.
        dropout: on the attention weights, in training.
    """

    def __init__(
        self, width: int, heads: int, layer: int, bias: bool = False, dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.heads = heads
        self.layer = layer
        self.dropout = dropout
        self.qkv = Linear(width, 3 * width, bias=bias)
        self.out = Linear(width, width, bias=bias)

    def forward(self, x: Tensor, reading: Reading, rotation: Tensor | None = None) -> Tensor:
        """Attend from float [R, L, width].

        Args:
            rotation: float [R or 1, 1, L, d / 2, 2], see `rotate`; None: positions are not turned.
        """
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1))
        query, key, value = (part.transpose(1, 2) for part in qkv.unbind(2))
        if rotation is not None:
            query, key = rotate(query, rotation), rotate(key, rotation)
        dropout = self.dropout if self.training else 0.0
        mixed = reading.attend(self.layer, query, key, value, dropout=dropout)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
