"""Attention of a sequence, or of one learned query, to a text.

Source: `CrossAttention` and `TextAttentivePool` in infinity/models/basic.py of StargazerX0/ScaleKV,
a copy of those of FoundationVision/Infinity (arXiv:2412.04431). There, texts of several captions
stand one after another; here they are padded, and what is padding is not seen. The released code
rounds to bfloat16 inside, which is not repeated.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.memory import scaled_attention
from limner.layers.linear import Linear, linear


@dataclass(frozen=True)
class Text:
    """What is read of the texts of a pass.

    Args:
        features: float [R, T, D].
        present: bool [R, 1, 1, T], which of them are no padding; None: all.
    """

    features: Tensor
    present: Tensor | None


class CrossAttention(nn.Module):
    """Multi-head attention to a text; queries and values have a bias, keys have none.

    Args:
        width: in and out.
        text_width: of the text.
        heads: number of heads.
    """

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.query = Linear(width, width)
        self.reader = TextKeys(width, text_width, heads)
        self.out = Linear(width, width)

    def forward(self, x: Tensor, text: Text) -> Tensor:
        """Attend from float [R, L, width]."""
        query = self.query(x).unflatten(-1, (self.reader.heads, -1)).transpose(1, 2)
        out: Tensor = self.out(self.reader(query, text))
        return out


class TextPool(nn.Module):
    """A text as one vector, read by a learned query.

    Args:
        width: of the vector.
        text_width: of the text.
        heads: number of heads.
    """

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.query = nn.Parameter(torch.randn(heads, width // heads) * width**-0.5)
        self.reader = TextKeys(width, text_width, heads)
        self.out = Linear(width, width)

    def forward(self, text: Text) -> Tensor:
        """Return float [R, 1, width]."""
        query = self.query.expand(len(text.features), 1, -1, -1).transpose(1, 2)
        out: Tensor = self.out(self.reader(query, text))
        return out


class TextKeys(nn.Module):
    """Keys and values of a text, and the attention of given queries to them.

    Args:
        width: of keys and values, all heads together.
        text_width: of the text.
        heads: number of heads.
    """

    def __init__(self, width: int, text_width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.keys_values = Linear(text_width, 2 * width, bias=False)
        self.value_bias = nn.Parameter(torch.zeros(width))

    def forward(self, query: Tensor, text: Text) -> Tensor:
        """Attend from queries [R, heads, L, d]; return float [R, L, width]."""
        bias = functional.pad(self.value_bias, (len(self.value_bias), 0))
        both = linear(text.features, self.keys_values.weight, bias).unflatten(
            -1, (2, self.heads, -1)
        )
        key, value = (part.transpose(1, 2) for part in both.unbind(2))
        mixed = scaled_attention(query, key, value, text.present)
        return mixed.transpose(1, 2).flatten(2)
