"""The plain transformer block of vision transformers (Dosovitskiy et al., arXiv:2010.11929)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from limner.core.errors import check
from limner.core.memory import Reading
from limner.layers.attention import SelfAttention
from limner.layers.mlp import MLP


@dataclass(frozen=True)
class StackConfig:
    """A stack of transformer blocks.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of each attention.
        ratio: hidden width of the MLPs over `width`.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    ratio: float = 4.0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "heads", "ratio"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        check(self.width % self.heads == 0, "width", self.width, f"a multiple of {self.heads}")


class VisionBlock(nn.Module):
    """Pre-norm block with biases: attention, then an MLP with exact GELU.

    Args:
        width: in and out.
        heads: number of heads.
        layer: number under which keys and values are remembered.
        ratio: hidden width of the MLP over `width`.
        attention_dropout: on attention weights, in training.
        dropout: on the attention's output and inside and behind the MLP, in training.
        eps: of the layer norms.
        qkv_bias: of queries, keys and values.

    Source: `Block` of timm 0.9.12, models/vision_transformer.py.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layer: int,
        ratio: float = 4.0,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        eps: float = 1e-6,
        qkv_bias: bool = True,
    ) -> None:
        super().__init__()
        self.attention_norm = nn.LayerNorm(width, eps)
        self.attention = SelfAttention(
            width, heads, layer, qkv_bias, dropout=attention_dropout, out_bias=True
        )
        self.mlp_norm = nn.LayerNorm(width, eps)
        self.mlp = MLP(width, int(width * ratio), dropout=dropout)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        """Map float [R, L, width] to the same shape."""
        x = x + self.dropout(self.attention(self.attention_norm(x), reading))
        out: Tensor = x + self.dropout(self.mlp(self.mlp_norm(x)))
        return out
