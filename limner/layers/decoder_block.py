"""The block of Llama (Touvron et al., arXiv:2302.13971), of which most decoders are made."""

from __future__ import annotations

from torch import Tensor, nn

from limner.core.memory import Reading
from limner.layers.attention import SelfAttention
from limner.layers.dropout import Dropout
from limner.layers.mlp import SwiGLU
from limner.layers.norms import RMSNorm


class DecoderBlock(nn.Module):
    """Pre-norm block: attention, then a SwiGLU MLP, without biases.

    Args:
        width: in and out.
        heads: of queries.
        layer: number under which keys and values are remembered.
        hidden: of the MLP.
        norm_eps: of the RMS norms.
        key_heads: of keys and values; None: as many as of queries.
        dropout: on both branches, in training.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layer: int,
        hidden: int,
        norm_eps: float = 1e-5,
        key_heads: int | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention_norm = RMSNorm(width, norm_eps)
        self.attention = SelfAttention(width, heads, layer, key_heads=key_heads)
        self.mlp_norm = RMSNorm(width, norm_eps)
        self.mlp = SwiGLU(width, hidden)
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor, reading: Reading, rotation: Tensor | None) -> Tensor:
        """Map float [R, L, width] to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), reading, rotation))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out
