"""Adaptive layer norm by groups of slots: each group has a vector of its own, some slots have none.

Block diffusion reads clean and noisy tokens in one pass: all tokens of a noisy block share a noise
level, and clean ones go through the same weights unmodulated (ACDiT, arXiv:2412.07720;
AR-Diffusion, arXiv:2503.07418).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.memory import Reading
from limner.layers.adaln import CHUNKS, AdaLNBlock, Modulation
from limner.layers.attention import SelfAttention
from limner.layers.mlp import MLP
from limner.layers.norms import RMSNorm


@dataclass(frozen=True, eq=False)
class Groups:
    """Which vector modulates which slot.

    Args:
        vectors: float [R, G + 1, width]; the first is not read.
        group: int64 [R, L], from 1 to G; 0: the slot is not modulated.
    """

    vectors: Tensor
    group: Tensor

    def of_slots(self) -> Tensor:
        """Return each slot's vector, float [R, L, width]; arbitrary where it has none."""
        return _take(self.vectors, self.group)


def group_levels(group: Tensor, levels: Tensor) -> Tensor:
    """Return the noise level of every group, float [R, G + 1]; the first is arbitrary.

    Args:
        group: int64 [R, L], see `Groups`.
        levels: float [R, L], alike within a group.
    """
    count = int(group.max()) + 1
    return levels.new_zeros(len(levels), count).scatter(1, group.to(levels.device), levels)


class GroupModulation(Modulation):
    """The six chunks of every slot, see `adaln.CHUNKS`; computed once a group.

    Args:
        width: of the vectors and of every chunk.
    """

    def forward(self, groups: Groups) -> Tensor:  # type: ignore[override]
        """Return float [R, L, 6, width]: gates of 1, scales and shifts of 0 where there is none."""
        chunks = super().forward(groups.vectors).flatten(-2)
        neutral = torch.zeros_like(chunks[:, :1]).unflatten(-1, (CHUNKS, -1))
        neutral[:, :, : CHUNKS // 3] = 1
        chunks = torch.cat([neutral.flatten(-2), chunks[:, 1:]], dim=1)
        return _take(chunks, groups.group).unflatten(-1, (CHUNKS, -1))


class GroupedBlock(AdaLNBlock):
    """ACDiT's block: attention, then an MLP, each behind an RMS norm with weights of its own.

    Args:
        width: of the sequence.
        heads: of the attention.
        layer: number under which keys and values are remembered.
        ratio: hidden width of the MLP over `width`.
        turn: how the attention takes positions.
        eps: of all norms, those of queries and keys included.

    Source: `DiTBlock` in models.py of thunlp/ACDiT.
    """

    def __init__(
        self,
        width: int,
        heads: int,
        layer: int,
        ratio: float,
        turn: Callable[[Tensor, Tensor], Tensor],
        eps: float = 1e-6,
    ) -> None:
        def norm(channels: int) -> nn.Module:
            return RMSNorm(channels, eps)

        super().__init__(
            width,
            SelfAttention(width, heads, layer, bias=True, norm=norm, turn=turn),
            MLP(width, int(width * ratio), "gelu-tanh"),
            GroupModulation(width),
            norm=norm(width),
        )
        self.mlp_norm = norm(width)

    def forward(  # type: ignore[override]
        self, x: Tensor, reading: Reading, groups: Groups, *positions: Tensor
    ) -> Tensor:
        """Map float [R, L, width] to the same shape."""
        attention, mlp = self.chunks(groups)  # type: ignore[arg-type]
        x = self.branch(x, attention, self.attention, reading, *positions)
        return self.branch(x, mlp, self.mlp, norm=self.mlp_norm)


class ReplacingBlock(AdaLNBlock):
    """AR-Diffusion's block: what a branch is added to is the normalised sequence.

    Args:
        width: of the sequence.
        heads: of the attention.
        ratio: hidden width of the MLP over `width`.
        head_norm: queries and keys are normalised, with weights, in each head.
        eps: of the norms of the sequence.

    Source: `DiTBlock` in src/ardiff/modules/dit_model.py of iva-mzsun/AR-Diffusion.
    """

    def __init__(
        self, width: int, heads: int, ratio: float, head_norm: bool, eps: float = 1e-6
    ) -> None:
        super().__init__(
            width,
            SelfAttention(
                width, heads, layer=0, bias=True, norm=nn.LayerNorm if head_norm else None
            ),
            MLP(width, int(width * ratio), "gelu-tanh"),
            GroupModulation(width),
            eps,
            norm=nn.Identity(),
        )
        self.replaced = nn.LayerNorm(width, eps, elementwise_affine=False)

    def branch(self, x: Tensor, chunks: Tensor, layer: nn.Module, *arguments: Any) -> Tensor:  # type: ignore[override]
        """See `AdaLNBlock.branch`."""
        return super().branch(self.replaced(x), chunks, layer, *arguments)


def _take(table: Tensor, index: Tensor) -> Tensor:
    """Return float [R, L, C] of [R, G, C] at int64 [R, L]."""
    index = index.to(table.device).unsqueeze(-1).expand(-1, -1, table.shape[-1])
    return table.gather(1, index)
