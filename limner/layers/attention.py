"""Self-attention that remembers through a `Reading`."""

from __future__ import annotations

from collections.abc import Callable

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
        out_bias: of the second projection; None: as the first.
        key_heads: of keys and values, each for `heads / key_heads` successive query heads; None:
            as many as query heads.
        norm: (channels of a head) -> norm of each head's queries, and another of its keys, before
            they are turned; None: neither is normalised.
        turn: (queries or keys, rotation) -> turned.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layer: int,
        bias: bool = False,
        dropout: float = 0.0,
        out_bias: bool | None = None,
        key_heads: int | None = None,
        norm: Callable[[int], nn.Module] | None = None,
        turn: Callable[[Tensor, Tensor], Tensor] = rotate,
    ) -> None:
        super().__init__()
        self.heads = heads
        self.key_heads = heads if key_heads is None else key_heads
        self.layer = layer
        self.dropout = dropout
        self.turn = turn
        self.query_norm = nn.Identity() if norm is None else norm(width // heads)
        self.key_norm = nn.Identity() if norm is None else norm(width // heads)
        rows = (heads + 2 * self.key_heads) * (width // heads)
        self.qkv = Linear(width, rows, bias=bias)
        self.out = Linear(width, width, bias=bias if out_bias is None else out_bias)

    def forward(self, x: Tensor, reading: Reading, rotation: Tensor | None = None) -> Tensor:
        """Attend from float [R, L, width].

        Args:
            rotation: what `turn` takes; for `rotate`, float [R or 1, 1, L, d / 2, 2]. None:
                positions are not turned.
        """
        qkv = self.qkv(x).unflatten(-1, (self.heads + 2 * self.key_heads, -1)).transpose(1, 2)
        query, key, value = qkv.split((self.heads, self.key_heads, self.key_heads), dim=1)
        query, key = self.query_norm(query), self.key_norm(key)
        if rotation is not None:
            query, key = self.turn(query, rotation), self.turn(key, rotation)
        dropout = self.dropout if self.training else 0.0
        mixed = reading.attend(self.layer, query, key, value, dropout=dropout)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
