"""Adaptive layer norm as VAR has it: a condition scales, shifts and gates every block.

One condition vector modulates a whole sequence. Unlike DiT's, the gates stand first and are plain
multipliers, and the chunks are grouped by kind: gates, scales, shifts, each of attention then MLP.

Source: `AdaLNSelfAttn` and `AdaLNBeforeHead` in models/basic_var.py of FoundationVision/VAR
(arXiv:2404.02905).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.memory import Reading
from limner.layers.cosine_attention import BiasedAttention
from limner.layers.mlp import MLP

CHUNKS = 6
"""gate 1, gate 2, scale 1, scale 2, shift 1, shift 2; 1 is attention's, 2 the MLP's."""


class Modulation(nn.Module):
    """A condition vector's chunks: linear(silu(condition)).

    Args:
        width: of the condition and of every chunk.
        chunks: how many.
    """

    def __init__(self, width: int, chunks: int = CHUNKS) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear = nn.Linear(width, chunks * width)

    def forward(self, condition: Tensor) -> Tensor:
        """Map float [R, 1, width] to [R, 1, chunks, width]."""
        chunks: Tensor = self.linear(functional.silu(condition)).unflatten(-1, (self.chunks, -1))
        return chunks

    def chunk_weights(self) -> Tensor:
        """Return the weights by chunk, float [chunks, width, width], sharing memory."""
        return self.linear.weight.unflatten(0, (self.chunks, -1))


class SharedModulation(nn.Module):
    """A block's own offset to chunks that the model computes once for all blocks (VAR-d36-s)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.offset = nn.Parameter(torch.randn(CHUNKS, width).mul_(width**-0.5))

    def forward(self, shared: Tensor) -> Tensor:
        """Map float [R, 1, 6, width] to the same shape."""
        return shared + self.offset

    def chunk_weights(self) -> Tensor:
        """Return the weights by chunk, float [6, width]."""
        return self.offset


class DropPath(nn.Module):
    """Leave out a residual branch for a random share of the rows (Huang et al., arXiv:1603.09382).

    Args:
        share: of the rows; the others are enlarged to keep the mean. In training only.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, branch: Tensor) -> Tensor:
        """Map float [R, ...] to the same shape."""
        if not (self.training and self.share):
            return branch
        rows = branch.new_ones(len(branch), *[1] * (branch.dim() - 1))
        return branch * functional.dropout(rows, self.share)


class AdaLNBlock(nn.Module):
    """Attention, then an MLP, each between a modulated norm and a gate.

    Args:
        width: of the sequence.
        attention: the first branch.
        mlp: the second branch.
        modulation: maps the condition to six chunks, see `CHUNKS`.
        eps: of the norms, which have no weights of their own.
        drop_path: share of rows for which a branch is left out in training.
    """

    def __init__(
        self,
        width: int,
        attention: BiasedAttention,
        mlp: MLP,
        modulation: Modulation | SharedModulation,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp
        self.modulation = modulation
        self.norm = nn.LayerNorm(width, eps, elementwise_affine=False)
        self.drop_path = DropPath(drop_path)

    def forward(self, x: Tensor, reading: Reading, condition: Tensor) -> Tensor:
        """Map float [R, L, width] to the same shape.

        Args:
            condition: what `modulation` reads, leading dimensions [R, 1].
        """
        gate1, gate2, scale1, scale2, shift1, shift2 = self.modulation(condition).unbind(-2)
        branch = self.attention(self.norm(x) * (1 + scale1) + shift1, reading)
        x = x + self.drop_path(gate1 * branch)
        branch = self.mlp(self.norm(x) * (1 + scale2) + shift2)
        x = x + self.drop_path(gate2 * branch)
        return x


class AdaLNOutput(nn.Module):
    """The modulated norm before the output layer; its chunks are scale, shift."""

    def __init__(self, width: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.modulation = Modulation(width, chunks=2)
        self.norm = nn.LayerNorm(width, eps, elementwise_affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map float [R, L, width] to the same shape, under conditions [R, 1, width]."""
        scale, shift = self.modulation(condition).unbind(-2)
        modulated: Tensor = self.norm(x) * (1 + scale) + shift
        return modulated
