"""VAR: next-scale prediction; a picture is drawn as a pyramid of token maps, one map a step.

Tian et al., "Visual Autoregressive Modeling: Scalable Image Generation via Next-Scale Prediction",
arXiv:2404.02905; facts from models/var.py and models/basic_var.py of FoundationVision/VAR.

Every step draws all tokens of one scale at once. What the network reads there is not the tokens
drawn so far but the picture they add up to, pooled to the size of the scale (the tokenizer's
canvas); the first scale reads the class. A scale sees itself and all coarser ones.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition, DescriptionVector
from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.memory import Memory, NoMemory
from limner.core.registry import MODELS
from limner.core.row import Condition, Row
from limner.core.slots import batch, up_to
from limner.core.tokens import Tokens
from limner.heads.categorical import CategoricalHead
from limner.heads.stages import min_p, processors, temperature, top_k, top_p_ascending
from limner.layers.adaln import (
    AdaLNBlock,
    AdaLNOutput,
    Modulation,
    SharedModulation,
    initialise,
)
from limner.layers.codes import projected_codes
from limner.layers.cosine_attention import BiasedAttention, CosineAttention
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.linear import Linear
from limner.layers.mlp import MLP
from limner.models.next_scale import NextScale, Scaled
from limner.orders import counted_scales, teacher_slots

SCALES_256 = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)
SCALES_512 = (1, 2, 3, 4, 6, 9, 13, 18, 24, 32)


@dataclass(frozen=True)
class NextScaleConfig:
    """What VAR and its descendants have in common, whatever their scales are.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of each attention.
        codebook_size: V, number of codes.
        latent: D, width of the tokenizer's latents.
        condition: "class"; or, limner's own, "description": a class, a style and a caption.
        classes: number of classes.
        styles: number of styles, for the description.
        mlp_ratio: hidden width of the MLP by the width.
        shared_adaln: blocks share the modulation of the class, each with an offset of its own.
        cosine: attention compares directions; otherwise plain products.
        norm_eps: of the layer norms.
        condition_dropout: share of classes replaced by the null class in training.
        drop_path: share of rows for which the last block's branches are left out in training;
            it grows linearly from 0 at the first block.
        gate_gain: factor on the gates' initial weights.
    """

    width: int = 1024
    depth: int = 16
    heads: int = 16
    codebook_size: int = 4096
    latent: int = 32
    condition: Literal["class", "description"] = "class"
    classes: int = 1000
    styles: int = 1
    mlp_ratio: float = 4.0
    shared_adaln: bool = False
    cosine: bool = True
    norm_eps: float = 1e-6
    condition_dropout: float = 0.1
    drop_path: float = 0.0
    gate_gain: float = 1e-3

    def __post_init__(self) -> None:
        positive = ("width", "depth", "heads", "codebook_size", "latent", "classes", "styles")
        for name in (*positive, "mlp_ratio"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        known = "'class' or 'description'"
        check(self.condition in ("class", "description"), "condition", self.condition, known)
        fits = self.width % self.heads == 0
        check(fits, "width", self.width, f"a multiple of heads ({self.heads})")
        for name in ("condition_dropout", "drop_path"):
            fits = 0 <= getattr(self, name) < 1
            check(fits, name, getattr(self, name), "at least 0 and below 1")


@dataclass(frozen=True)
class VARConfig(Scaled, NextScaleConfig):
    """Configuration of VAR.

    Args:
        scales: sides of the maps, coarse to fine: one number for squares, or (rows, columns).
    """

    scales: tuple[int | tuple[int, int], ...] = SCALES_256

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_scales()


@MODELS.family("var", VARConfig)
class VAR(NextScale):
    """The next-scale transformer. Its canvas is a multi-scale quantiser.

    Args:
        config: see `VARConfig`.
    """

    config: VARConfig
    condition: ClassCondition | DescriptionVector
    head: CategoricalHead
    guidance = "ramp"
    grows = True
    visible = staticmethod(up_to)  # whom attention sees

    def __init__(self, config: VARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.condition = self._condition()
        self.words = nn.Linear(config.latent, width)
        self._add_places()
        self.shared = Modulation(width) if config.shared_adaln else None
        blocks = [self._block(layer) for layer in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = AdaLNOutput(width, config.norm_eps)
        self.output = Linear(width, config.codebook_size)
        self.head = CategoricalHead((processors, temperature, top_k, top_p_ascending, min_p))
        self._initialise(blocks)

    def _condition(self) -> ClassCondition | DescriptionVector:
        config = self.config
        if config.condition == "class":
            return ClassCondition(config.classes, config.width)
        return DescriptionVector(config.classes, config.styles, config.width)

    def _add_places(self) -> None:
        """Make `start`, what the first scale reads beside the class, and what `positions` reads."""
        sizes, width = self.config.sizes, self.config.width
        self.start = nn.Parameter(torch.empty(sizes[0][0] * sizes[0][1], width))
        self.scales = nn.Embedding(len(sizes), width)
        self.places = nn.Embedding(self.config.length, width)

    def _block(self, layer: int) -> AdaLNBlock:
        config, width = self.config, self.config.width
        attention = CosineAttention if config.cosine else BiasedAttention
        return AdaLNBlock(
            width,
            attention(width, config.heads, layer),
            MLP(width, round(width * config.mlp_ratio), "gelu-tanh"),
            SharedModulation(width) if config.shared_adaln else Modulation(width),
            config.norm_eps,
            config.drop_path * layer / max(1, config.depth - 1),
        )

    @torch.no_grad()
    def _initialise(self, blocks: Sequence[AdaLNBlock]) -> None:
        initialise(self, blocks, self.norm, self.output, self.config.gate_gain)
        nn.init.trunc_normal_(self.start, std=(3 * self.config.width) ** -0.5)

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, rng: torch.Generator) -> None:
        """Begin with outputs that are alike for codes that look alike; see `projected_codes`."""
        self.output.weight.copy_(0.05 * projected_codes(vectors, self.config.width, rng))

    def inputs(self, packed: Packed) -> Tensor:
        """The class on the first scale, the canvas elsewhere; plus scale and place."""
        assert packed.fed is not None, "VAR reads a canvas: set `canvas` to the tokenizer's"
        start = self.condition.prefix(packed.condition)
        start = start + self.start[packed.place.clamp(max=len(self.start) - 1)]
        words = self.words(packed.fed.to(self.words.weight.dtype))
        first = (packed.coordinates()[..., 0] == 0).unsqueeze(-1)
        return torch.where(first, start, words) + self.positions(packed)

    def positions(self, packed: Packed) -> Tensor:
        """What is added to the content of every slot, by its scale and place: [R, L, width]."""
        embedded: Tensor = self.scales(packed.coordinates()[..., 0]) + self.places(packed.place)
        return embedded

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits, float [R, M, V]."""
        x = self.inputs(packed)
        vector = self.condition.prefix(packed.condition)
        modulating = vector if self.shared is None else self.shared(vector)
        reading = memory.read(packed.rows, packed.slots, self.visible)
        for block in self.blocks:
            x = block(x, reading, modulating)
        reading.close()
        logits: Tensor = self.output(self.norm(packed.speaking(x), vector))
        return logits

    def loss(
        self,
        tokens: Tokens,
        condition: Condition,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every token given all coarser scales.

        Args:
            weight: float [N], how much each token counts; scales after the last that counts are
                left out of the pass. None: all alike.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        fed, targets = self.canvas.teach(tokens, rng)
        assert fed is not None and targets.ids is not None
        count, end = counted_scales(tokens.layout, weight)
        weight = None if weight is None else weight[:end].expand(len(tokens), end)
        slots = batch([teacher_slots(tokens.layout, count)] * len(tokens))
        packed = Packed(tokens, slots, [condition], fed=fed[:, :end])
        return self.head.loss(self(packed, NoMemory()), targets.ids[:, :end], rng, weight)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for all scales but the last, which nothing reads later."""
        config, weight = self.config, self.output.weight
        size = (config.depth, config.heads, config.width // config.heads, self._kept(rows))
        return KeyValueMemory(*size, weight.device, weight.dtype)

    def _kept(self, rows: Sequence[Row]) -> int:
        """Return how many tokens of these rows later ones read."""
        return self.config.length - self.config.sizes[-1][0] * self.config.sizes[-1][1]


def _register_variants() -> None:
    sizes = {  # name: depth, counted parameters, gate gain
        "d16": (16, 310_283_520, 1e-3),
        "d20": (20, 600_917_136, 1e-3),
        "d24": (24, 1_033_399_360, 1e-4),
        "d30": (30, 2_010_020_356, 1e-5),
        "d36-s": (36, 2_353_893_904, 5e-6),
    }
    for name, (depth, published, gain) in sizes.items():
        config = VARConfig(64 * depth, depth, depth, drop_path=0.1 * depth / 24, gate_gain=gain)
        if name == "d36-s":
            config = replace(config, scales=SCALES_512, shared_adaln=True)
        MODELS.variant(f"var-{name}", "var", config, published)


_register_variants()
