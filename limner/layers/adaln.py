"""Adaptive layer norm as VAR has it: a condition scales, shifts and gates every block.

One condition vector modulates a whole sequence. Unlike DiT's, the gates stand first and are plain
multipliers, and the chunks are grouped by kind: gates, scales, shifts, each of attention, then of
the mixer where there is one, then of the MLP.

Source: `AdaLNSelfAttn` and `AdaLNBeforeHead` in models/basic_var.py of FoundationVision/VAR
(arXiv:2404.02905).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.memory import Reading
from limner.layers.attention import SelfAttention
from limner.layers.cosine_attention import BiasedAttention
from limner.layers.cross_attention import CrossAttention, Text
from limner.layers.linear import Linear
from limner.layers.mamba import Mamba, Mamba2
from limner.layers.mlp import GEGLU, MLP
from limner.layers.norms import RMSNorm

CHUNKS = 6
"""gate 1, gate 2, scale 1, scale 2, shift 1, shift 2; 1 is attention's, 2 the MLP's."""


class Modulation(nn.Module):
    """A condition vector's chunks: linear(silu(condition)).

    Drawing asks for the same chunks at every step, and reading the weights for them takes a good
    part of a small step; so the last ones are kept on CPUs.

    Args:
        width: of the condition and of every chunk.
        chunks: how many.
    """

    def __init__(self, width: int, chunks: int = CHUNKS) -> None:
        super().__init__()
        self.chunks = chunks
        self.linear = Linear(width, chunks * width)
        self._last: tuple[list[tuple[int, int]], Tensor, Tensor] | None = None

    def forward(self, condition: Tensor) -> Tensor:
        """Map float [R, 1, width] to [R, 1, chunks, width]."""
        one = condition.shape[-2] == 1 and condition.device.type == "cpu"
        if one and not (torch.is_grad_enabled() or torch.compiler.is_compiling()):
            return self._kept(condition)
        return self._chunks(condition)

    def _chunks(self, condition: Tensor) -> Tensor:
        chunks: Tensor = self.linear(functional.silu(condition)).unflatten(-1, (self.chunks, -1))
        return chunks

    def _kept(self, condition: Tensor) -> Tensor:
        """Return the chunks of last time, if neither condition nor weights have changed."""
        weights = (*self.linear.parameters(), *self.linear.buffers())
        if any(weight.is_inference() for weight in weights):  # which tell nothing of changes
            return self._chunks(condition)
        now = [(weight.data_ptr(), weight._version) for weight in weights]
        last = self._last
        if last is None or last[0] != now or not _same(last[1], condition):
            last = self._last = now, condition.clone(), self._chunks(condition)
        return last[2]

    def chunk_weights(self) -> Tensor:
        """Return the weights by chunk, float [chunks, width, width], sharing memory."""
        return self.linear.weight.unflatten(0, (self.chunks, -1))


def _same(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and one.dtype == other.dtype and one.equal(other)


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

    @property
    def leaves_out(self) -> bool:
        """Whether it does anything now."""
        return self.training and self.share > 0

    def forward(self, branch: Tensor) -> Tensor:
        """Map float [R, ...] to the same shape."""
        if not self.leaves_out:
            return branch
        rows = branch.new_ones(len(branch), *[1] * (branch.dim() - 1))
        return branch * functional.dropout(rows, self.share)


def modulated(x: Tensor, norm: nn.Module, scale: Tensor, shift: Tensor) -> Tensor:
    """Return norm(x) (1 + scale) + shift, in one pass over the normed [R, L, width]."""
    return torch.addcmul(shift, norm(x), 1 + scale)


class AdaLNBlock(nn.Module):
    """Attention, then an MLP, each between a modulated norm and a gate.

    Args:
        width: of the sequence.
        attention: the first branch.
        mlp: the second branch.
        modulation: maps the condition to six chunks, see `CHUNKS`.
        eps: of the norms, which have no weights of their own.
        drop_path: share of rows for which a branch is left out in training.
        norm: before both branches, without weights; None: a layer norm.
        dropout: on the branches, in training.
    """

    def __init__(
        self,
        width: int,
        attention: BiasedAttention | SelfAttention,
        mlp: MLP | GEGLU,
        modulation: Modulation | SharedModulation,
        eps: float = 1e-6,
        drop_path: float = 0.0,
        norm: nn.Module | None = None,
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        self.attention = attention
        self.mlp = mlp
        self.modulation = modulation
        self.norm = norm or nn.LayerNorm(width, eps, elementwise_affine=False)
        self.drop_path = DropPath(drop_path)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor, reading: Reading, condition: Tensor, *positions: Tensor) -> Tensor:
        """Map float [R, L, width] to the same shape.

        Args:
            condition: what `modulation` reads, leading dimensions [R, 1] or [R, L].
            positions: rotations, for an attention that turns queries and keys.
        """
        return self._branches(self, x, reading, self.chunks(condition), *positions)

    def branches(
        self, x: Tensor, reading: Reading, chunks: tuple[Tensor, ...], *positions: Tensor
    ) -> Tensor:
        """Map float [R, L, width] to the same shape, modulated as `chunks` says."""
        attention, mlp = chunks
        x = self.branch(x, attention, self.attention, reading, *positions)
        return self.branch(x, mlp, self.mlp)

    # of no block, so that copies of a compiled one read their own weights
    _branches: Callable[..., Tensor] = staticmethod(branches)

    def compile(self, **options: Any) -> None:
        """Compile what follows the modulation, whose chunks are kept from step to step.

        Args:
            **options: of `torch.compile`.
        """
        if type(self).forward is AdaLNBlock.forward:
            self._branches = torch.compile(AdaLNBlock.branches, **options)
        else:
            super().compile(**options)

    def chunks(self, condition: Tensor) -> tuple[Tensor, ...]:
        """Return gate, scale and shift of every branch, each float [R, 1 or L, 3, width]."""
        return self.modulation(condition).unflatten(-2, (3, -1)).unbind(-2)

    def branch(
        self,
        x: Tensor,
        chunks: Tensor,
        layer: nn.Module,
        *arguments: Any,
        norm: nn.Module | None = None,
    ) -> Tensor:
        """Add to [R, L, width] what a layer makes of it and of further arguments.

        Args:
            norm: of this branch, where it is another than the block's.
        """
        gate, scale, shift = chunks.unbind(-2)
        added = layer(modulated(x, norm or self.norm, scale, shift), *arguments)
        if self.drop_path.leaves_out:
            return x + self.drop_path(gate * self.dropout(added))
        return torch.addcmul(x, gate, self.dropout(added))


class AdaLNMixerBlock(AdaLNBlock):
    """Attention, then a recurrent mixer, then an MLP, each between a modulated norm and a gate.

    Args:
        width: of the sequence.
        attention: the first branch.
        mixer: the second branch.
        mlp: the third branch.
        eps: of the norms, which have no weights of their own.
        drop_path: share of rows for which a branch is left out in training.

    Source: `AdaLNSelfAttn` in models/basic_mvar.py of OliverRensu/MVAR (arXiv:2411.10433).
    """

    def __init__(
        self,
        width: int,
        attention: BiasedAttention | SelfAttention,
        mixer: Mamba | Mamba2,
        mlp: MLP | GEGLU,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, attention, mlp, Modulation(width, chunks=9), eps, drop_path)
        self.mixer = mixer

    def forward(self, x: Tensor, reading: Reading, condition: Tensor, *positions: Tensor) -> Tensor:
        """See `AdaLNBlock.forward`; the mixer needs a `RecurrentReading`."""
        attention, mixer, mlp = self.chunks(condition)
        x = self.branch(x, attention, self.attention, reading, *positions)
        x = self.branch(x, mixer, self.mixer, reading)
        return self.branch(x, mlp, self.mlp)


class AdaLNCrossBlock(AdaLNBlock):
    """Attention, attention to a text after a plain layer norm, then an MLP.

    Args:
        width: of the sequence.
        attention: the first branch.
        cross: the second branch; neither modulated nor gated.
        mlp: the third branch.
        modulation: of the other two branches.
        eps: of the norms.
        drop_path: share of rows for which those are left out in training.

    Source: `CrossAttnBlock` in infinity/models/basic.py of StargazerX0/ScaleKV, a copy of that of
    FoundationVision/Infinity (arXiv:2412.04431).
    """

    def __init__(
        self,
        width: int,
        attention: BiasedAttention,
        cross: CrossAttention,
        mlp: MLP,
        modulation: SharedModulation,
        eps: float = 1e-6,
        drop_path: float = 0.0,
    ) -> None:
        super().__init__(width, attention, mlp, modulation, eps, drop_path)
        self.cross_norm = nn.LayerNorm(width, eps)
        self.cross = cross

    def forward(  # type: ignore[override]
        self, x: Tensor, reading: Reading, condition: Tensor, rotation: Tensor, text: Text
    ) -> Tensor:
        """Map float [R, L, width] to the same shape; `text` is what is read, see `Text`."""
        attention, mlp = self.chunks(condition)
        x = self.branch(x, attention, self.attention, reading, rotation)
        x = x + self.cross(self.cross_norm(x), text)
        return self.branch(x, mlp, self.mlp)


def rotary_block(
    width: int,
    heads: int,
    layer: int,
    ratio: float = 4.0,
    attention_dropout: float = 0.0,
    dropout: float = 0.0,
    eps: float = 1e-6,
    modulation: Modulation | None = None,
) -> AdaLNBlock:
    """Return FlowAR's block: plain attention that takes rotations, a gated MLP, RMS norms.

    Args:
        width: of the sequence.
        heads: of the attention.
        layer: number under which keys and values are remembered.
        ratio: the gated MLP is two thirds of this times `width` wide.
        attention_dropout: on attention weights, in training.
        dropout: on both branches and inside the MLP, in training.
        eps: of the norms.
        modulation: maps the condition to six chunks; None: one for the whole sequence.

    Source: `Block` in models/flowar.py of OliverRensu/FlowAR (arXiv:2412.15205).
    """
    return AdaLNBlock(
        width,
        SelfAttention(width, heads, layer, bias=True, dropout=attention_dropout),
        GEGLU(width, int(width * ratio * 2 / 3), dropout),
        modulation or Modulation(width),
        norm=RMSNorm(width, eps, affine=False),
        dropout=dropout,
    )


class AdaLNOutput(nn.Module):
    """The modulated norm before the output layer; its chunks are scale, shift.

    Args:
        width: in, out and of the condition.
        eps: of the layer norm.
        norm: another one, without weights; None: a layer norm.
    """

    def __init__(self, width: int, eps: float = 1e-6, norm: nn.Module | None = None) -> None:
        super().__init__()
        self.modulation = Modulation(width, chunks=2)
        self.norm = norm or nn.LayerNorm(width, eps, elementwise_affine=False)

    def forward(self, x: Tensor, condition: Tensor) -> Tensor:
        """Map float [R, L, width] to the same shape, under conditions [R, 1 or L, width]."""
        return modulated(x, self.norm, *self.modulation(condition).unbind(-2))


@torch.no_grad()
def initialise(
    model: nn.Module,
    blocks: Sequence[AdaLNBlock],
    norm: AdaLNOutput,
    output: nn.Linear,
    gate_gain: float,
) -> None:
    """Set a model's initial weights as VAR does: small steps at first, and even chances.

    Args:
        model: of the other parts; its linear layers and tables are set.
        blocks: whose branches begin the smaller, the more of them there are.
        norm: before the output layer.
        output: the output layer.
        gate_gain: factor on the gates.
    """
    std = (3 * output.in_features) ** -0.5
    for module in model.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.trunc_normal_(module.weight, std=std)
        if isinstance(module, nn.Linear) and module.bias is not None:
            nn.init.zeros_(module.bias)
    output.weight *= 0.02
    norm.modulation.linear.weight *= 0.5
    for block in blocks:
        for last in (block.attention.out, block.mlp.out):
            last.weight /= (2 * len(blocks)) ** 0.5
        chunks = block.modulation.chunk_weights()
        chunks[:2] *= gate_gain
        chunks[2:] *= 0.5
