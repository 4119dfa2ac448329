"""A velocity network that sees a whole scale: a small transformer with a token's own modulation.

Ren et al., "FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching",
arXiv:2412.15205; facts from models/flowmodel.py of OliverRensu/FlowAR. Norms are modulated by the
time and by what the generator says of each place (the paper's spatially adaptive norm).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.memory import PassReading, as_heads, scaled_attention
from limner.layers.adaln import AdaLNBlock, AdaLNOutput, Modulation
from limner.layers.attention import SelfAttention
from limner.layers.mlp import GEGLU
from limner.layers.norms import RMSNorm
from limner.layers.rotary import rotate, spanning_rotation
from limner.layers.timestep import TimestepEmbedding

EPS = 1e-6


@dataclass(frozen=True, eq=False)
class TokenPlaces:
    """Where the tokens of a pass stand; those of one segment see each other and share a time.

    Args:
        layout: of all tokens.
        token: int64 [R or 1, n] on the CPU, index of each token; -1 is padding.
    """

    layout: Layout
    token: Tensor

    def segment(self) -> Tensor:
        """Return the segment of each token, int64 [R or 1, n]; -1 for padding."""
        return self.layout.segment_of()[self.token.clamp(min=0)].where(self.token >= 0, -1)

    def mask(self) -> Tensor | None:
        """Return who sees whom, bool [R or 1, 1, n, n]; None where all is seen."""
        segment = self.segment()
        return as_heads(segment.unsqueeze(-1) == segment.unsqueeze(-2))

    def twice(self) -> TokenPlaces:
        """Return the places of a pass in which every row stands twice, [2 R or 1, n]."""
        token = self.token if len(self.token) == 1 else torch.cat([self.token, self.token])
        return TokenPlaces(self.layout, token)


@dataclass(frozen=True)
class FlowTransformerConfig:
    """Configuration of a velocity network that sees a whole scale.

    Args:
        width: of the blocks.
        depth: number of blocks.
        head_width: of each attention; a multiple of 4 that divides `width`.
        cross: blocks also attend to the condition, and only their MLPs are modulated by it.
        ratio: the gated MLP is two thirds of this times `width` wide.
        span: what the side of a scale measures in rotary positions.
        base: of the rotary frequencies.
    """

    width: int = 1024
    depth: int = 2
    head_width: int = 64
    cross: bool = False
    ratio: float = 4.0
    span: float = 16.0
    base: float = 10000.0

    def __post_init__(self) -> None:
        for name in ("width", "depth", "head_width", "ratio", "span", "base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        fits = self.head_width % 4 == 0 and self.width % self.head_width == 0
        accepted = f"a multiple of 4 that divides width ({self.width})"
        check(fits, "head_width", self.head_width, accepted)


class FlowTransformer(nn.Module):
    """Tells the velocity of noisy tokens from time, condition and the other tokens of their scale.

    Args:
        token: D, width of a token.
        condition: width of the condition.
        config: see `FlowTransformerConfig`.
    """

    def __init__(self, token: int, condition: int, config: FlowTransformerConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.time = TimestepEmbedding(width)
        self.condition = nn.Linear(condition, width)
        self.into = nn.Linear(token, width)
        self.blocks = nn.ModuleList(
            CrossFlowBlock(config, condition) if config.cross else FlowBlock(config)
            for _ in range(config.depth)
        )
        self.norm = AdaLNOutput(width, norm=RMSNorm(width, EPS, affine=False))
        self.out = nn.Linear(width, token)

    def forward(
        self, noisy: Tensor, time: Tensor, condition: Tensor, places: TokenPlaces
    ) -> Tensor:
        """Return velocities, float [R, n, D].

        Args:
            noisy: float [R, n, D].
            time: float or int64 [R, 1] or [R, n].
            condition: float [R, n, condition].
            places: of the tokens.
        """
        config, place = self.config, places.token.clamp(min=0).to(noisy.device)
        position = (config.head_width, config.span, config.base, noisy.dtype)
        rotation = spanning_rotation(places.layout, place, *position)
        mask = places.mask()
        clock = self.time(time)
        guide = clock + self.condition(condition)
        x = self.into(noisy)
        for block in self.blocks:
            x = block(x, mask, rotation, clock, guide, condition)
        out: Tensor = self.out(self.norm(x, guide))
        return out


def _mlp(config: FlowTransformerConfig) -> GEGLU:
    return GEGLU(config.width, int(config.width * config.ratio * 2 / 3))


def _attention(config: FlowTransformerConfig) -> SelfAttention:
    heads = config.width // config.head_width
    return SelfAttention(config.width, heads, layer=0, bias=False, out_bias=True)


class FlowBlock(AdaLNBlock):
    """Attention and MLP, both modulated by time and condition.

    Args:
        config: of the network.
    """

    def __init__(self, config: FlowTransformerConfig) -> None:
        norm = RMSNorm(config.width, EPS, affine=False)
        modulation = Modulation(config.width)
        super().__init__(config.width, _attention(config), _mlp(config), modulation, norm=norm)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        mask: Tensor | None,
        rotation: Tensor,
        clock: Tensor,
        guide: Tensor,
        condition: Tensor,
    ) -> Tensor:
        """Map float [R, n, width] to the same shape; arguments as of `CrossFlowBlock.forward`."""
        return super().forward(x, PassReading(mask), guide, rotation)


class CrossFlowBlock(nn.Module):
    """Attention modulated by the time, attention to the condition, MLP modulated by both.

    Args:
        config: of the network.
        condition: width of the condition.
    """

    def __init__(self, config: FlowTransformerConfig, condition: int) -> None:
        super().__init__()
        self.norm = RMSNorm(config.width, EPS, affine=False)
        self.attention = _attention(config)
        self.attention_modulation = Modulation(config.width, chunks=3)
        self.query_norm = RMSNorm(config.width, EPS)
        self.condition_norm = RMSNorm(condition, EPS)
        self.cross = PlacedCrossAttention(config.width, condition, config.head_width)
        self.mlp = _mlp(config)
        self.mlp_modulation = Modulation(config.width, chunks=3)

    def forward(
        self,
        x: Tensor,
        mask: Tensor | None,
        rotation: Tensor,
        clock: Tensor,
        guide: Tensor,
        condition: Tensor,
    ) -> Tensor:
        """Map float [R, n, width] to the same shape.

        Args:
            mask: bool [R or 1, 1, n, n], who sees whom; None: all see all.
            rotation: float [R or 1, 1, n, head_width / 2, 2].
            clock: embedded time, float [R, 1 or n, width].
            guide: embedded time and condition, float [R, n, width].
            condition: float [R, n, condition], as it comes.
        """
        gate, scale, shift = self.attention_modulation(clock).unbind(-2)
        reading = PassReading(mask)
        x = x + gate * self.attention(self.norm(x) * (1 + scale) + shift, reading, rotation)
        source = self.condition_norm(condition)
        x = x + self.cross(self.query_norm(x), source, rotation, mask)
        gate, scale, shift = self.mlp_modulation(guide).unbind(-2)
        out: Tensor = x + gate * self.mlp(self.norm(x) * (1 + scale) + shift)
        return out


class PlacedCrossAttention(nn.Module):
    """Attention to a source whose entries stand at the same places, with rotary positions.

    Args:
        width: in and out.
        source: width of the source.
        head_width: of each head.
    """

    def __init__(self, width: int, source: int, head_width: int) -> None:
        super().__init__()
        self.heads = width // head_width
        self.query = nn.Linear(width, width, bias=False)
        self.keys_values = nn.Linear(source, 2 * width, bias=False)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, source: Tensor, rotation: Tensor, mask: Tensor | None) -> Tensor:
        """Attend from float [R, n, width] to float [R, n, source].

        Args:
            rotation: float [R or 1, 1, n, head_width / 2, 2].
            mask: bool [R or 1, 1, n, n]; None: all is seen.
        """
        query = self.query(x).unflatten(-1, (self.heads, -1)).transpose(1, 2)
        pairs = self.keys_values(source).unflatten(-1, (2, self.heads, -1))
        key, value = (part.transpose(1, 2) for part in pairs.unbind(2))
        query, key = rotate(query, rotation), rotate(key, rotation)
        mixed = scaled_attention(query, key, value, mask)
        out: Tensor = self.out(mixed.transpose(1, 2).flatten(2))
        return out
