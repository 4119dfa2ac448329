"""Blocks that read a text and a picture together: first as two streams, then as one sequence.

Esser et al., "Scaling Rectified Flow Transformers", arXiv:2403.03206, and FLUX; facts from
src/transformer.py of viiika/Meissonic and models/{attention,attention_processor,normalization}.py
of huggingface/diffusers 0.31.0. The text stands before the picture; everything sees everything.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core.memory import Reading
from limner.layers.adaln import AdaLNBlock, Modulation
from limner.layers.linear import Linear
from limner.layers.mlp import MLP
from limner.layers.norms import RMSNorm
from limner.layers.rotary import rotate

EPS = 1e-6

Projected = tuple[Tensor, ...]
"""Queries, keys and values, float [R, heads, L, d] each."""


class NormedProjection(nn.Module):
    """Queries, keys and values, the first two RMS-normed by head, and the way back from heads.

    Args:
        width: in and out.
        heads: number of heads.
        returns: with the way back.
    """

    def __init__(self, width: int, heads: int, returns: bool = True) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = Linear(width, 3 * width)
        self.query_norm = RMSNorm(width // heads, EPS)
        self.key_norm = RMSNorm(width // heads, EPS)
        self.out = Linear(width, width) if returns else None

    def forward(self, x: Tensor) -> Projected:
        """Map float [R, L, width]."""
        qkv = self.qkv(x).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = qkv.unbind(0)
        return self.query_norm(query), self.key_norm(key), value


def attend(projected: Projected, layer: int, reading: Reading, rotation: Tensor) -> Tensor:
    """Turn queries and keys and attend; return float [R, L, width].

    Args:
        layer: number under which keys and values are remembered.
        rotation: float [R or 1, 1, L, d / 2, 2].
    """
    query, key, value = projected
    mixed = reading.attend(layer, rotate(query, rotation), rotate(key, rotation), value)
    return mixed.transpose(1, 2).flatten(2)


class Stream(AdaLNBlock):
    """One stream's half of a joint block: its own modulation, projections and MLP.

    Args:
        width: of the stream.
        heads: of the attention.
    """

    attention: NormedProjection  # type: ignore[assignment]

    def __init__(self, width: int, heads: int) -> None:
        mlp = MLP(width, 4 * width, "gelu-tanh")
        attention = NormedProjection(width, heads)
        super().__init__(width, attention, mlp, Modulation(width), EPS)  # type: ignore[arg-type]

    def projected(self, x: Tensor, chunks: Tensor) -> Projected:
        """Return what the stream brings to the common attention."""
        _, scale, shift = chunks.unbind(-2)
        projected: Projected = self.attention(self.norm(x) * (1 + scale) + shift)
        return projected

    def add(self, x: Tensor, mixed: Tensor, attention: Tensor, mlp: Tensor) -> Tensor:
        """Return the stream after what it read, float [R, L, width], and after its MLP."""
        assert self.attention.out is not None
        x = x + attention.unbind(-2)[0] * self.attention.out(mixed)
        return self.branch(x, mlp, self.mlp)


class JointBlock(nn.Module):
    """Attention over text and picture at once, whose weights are apart.

    Args:
        width: of both streams.
        heads: of the attention.
        layer: number under which keys and values are remembered.
    """

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.text = Stream(width, heads)
        self.picture = Stream(width, heads)

    def forward(
        self, text: Tensor, picture: Tensor, reading: Reading, vector: Tensor, rotation: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Map float [R, T, width] and [R, L, width] to the same shapes.

        Args:
            reading: of T + L slots.
            vector: what modulates, float [R, 1, width].
            rotation: float [R or 1, 1, T + L, d / 2, 2].
        """
        of_text, of_picture = self.text.chunks(vector), self.picture.chunks(vector)
        told = self.text.projected(text, of_text[0])
        seen = self.picture.projected(picture, of_picture[0])
        both = tuple(torch.cat(pair, dim=2) for pair in zip(told, seen, strict=True))
        mixed = attend(both, self.layer, reading, rotation)
        by_text, by_picture = mixed.split((text.shape[1], picture.shape[1]), dim=1)
        text = self.text.add(text, by_text, *of_text)
        return text, self.picture.add(picture, by_picture, *of_picture)


class SingleBlock(nn.Module):
    """Attention and MLP side by side over one sequence, under one gate.

    Args:
        width: of the sequence.
        heads: of the attention.
        layer: number under which keys and values are remembered.
    """

    def __init__(self, width: int, heads: int, layer: int) -> None:
        super().__init__()
        self.layer = layer
        self.modulation = Modulation(width, chunks=3)
        self.norm = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.attention = NormedProjection(width, heads, returns=False)
        self.into = Linear(width, 4 * width)
        self.activation = nn.GELU(approximate="tanh")
        self.out = Linear(5 * width, width)

    def forward(self, x: Tensor, reading: Reading, vector: Tensor, rotation: Tensor) -> Tensor:
        """Map float [R, L, width] to the same shape; arguments as of `JointBlock.forward`."""
        gate, scale, shift = self.modulation(vector).unbind(-2)
        hidden = self.norm(x) * (1 + scale) + shift
        mixed = attend(self.attention(hidden), self.layer, reading, rotation)
        beside = self.activation(self.into(hidden))
        out: Tensor = x + gate * self.out(torch.cat([mixed, beside], dim=-1))
        return out
