"""Infinity: next-scale prediction from text, one bit at a time instead of one code of a table.

Han et al., "Infinity: Scaling Bitwise AutoRegressive Modeling for High-Resolution Image Synthesis",
arXiv:2412.04431; facts from infinity/models/{infinity,basic}.py of StargazerX0/ScaleKV, a copy of
FoundationVision's.

As VAR, it draws all tokens of a scale at once and reads what the coarser ones add up to. Tokens are
bits of a multi-scale quantiser (the tokenizer's canvas, which flips some in training). A text is
read twice: pooled, it is the first scale's content and modulates every block; word by word, every
block attends to it. Positions are rotary and those of the template's finest grid.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.conditions import CaptionCondition, TextFeatures
from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import batch, up_to
from limner.core.tokens import Tokens
from limner.heads.bitwise import BitwiseHead
from limner.heads.guidance import guided_inside
from limner.layers.adaln import (
    AdaLNCrossBlock,
    AdaLNOutput,
    Modulation,
    SharedModulation,
    initialise,
)
from limner.layers.cosine_attention import CosineAttention
from limner.layers.cross_attention import CrossAttention, Text, TextPool
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.linear import Linear
from limner.layers.mlp import MLP
from limner.layers.norms import RMSNorm
from limner.layers.rotary import projected_rotation
from limner.models.next_scale import NextScale
from limner.orders import counted_scales, scales, teacher_slots
from limner.orders.aspect_ratios import reference_grid

ROTARY_BASE = 10000.0


@dataclass(frozen=True)
class InfinityConfig:
    """Configuration of Infinity.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of each attention.
        bits: of a token.
        condition: "text", features of a frozen text encoder; or, limner's own that needs no
            weights, "caption", a small text encoder that is trained with the generator.
        text_length: longest text, in features.
        text_width: of the features.
        levels: most scales of a picture.
        level_blocks: blocks before which a scale's own vector is added.
        reference: rotary positions are those of the finest grid of the published "template" that a
            picture's scales begin, or of the picture's "own".
        mlp_ratio: hidden width of the MLP by the width, rounded to a multiple of 256.
        norm_eps: of the norms.
        condition_dropout: share of texts replaced by learned features in training.
        drop_path: share of rows for which the last block's branches are left out in training;
            it grows linearly from 0 at the first block.
        gate_gain: factor on the gates' initial weights.
    """

    width: int = 2048
    depth: int = 32
    heads: int = 16
    bits: int = 32
    condition: Literal["text", "caption"] = "text"
    text_length: int = 512
    text_width: int = 2048
    levels: int = 15
    level_blocks: tuple[int, ...] = (0,)
    reference: Literal["template", "own"] = "template"
    mlp_ratio: float = 4.0
    norm_eps: float = 1e-6
    condition_dropout: float = 0.1
    drop_path: float = 0.1
    gate_gain: float = 1e-3

    def __post_init__(self) -> None:
        positive = ("width", "depth", "heads", "bits", "text_length", "text_width", "levels")
        for name in (*positive, "mlp_ratio"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        fits = self.width % (4 * self.heads) == 0
        check(fits, "width", self.width, f"a multiple of 4 heads ({4 * self.heads})")
        accepted = f"a multiple of the {self.text_heads} heads that pool a text"
        check(self.width % self.text_heads == 0, "width", self.width, accepted)
        fits = all(0 <= block < self.depth for block in self.level_blocks)
        check(fits, "level_blocks", self.level_blocks, f"numbers from 0 to {self.depth - 1}")
        known = ("text", "caption")
        check(self.condition in known, "condition", self.condition, "'text' or 'caption'")
        known = ("template", "own")
        check(self.reference in known, "reference", self.reference, "'template' or 'own'")
        for name in ("condition_dropout", "drop_path"):
            fits = 0 <= getattr(self, name) < 1
            check(fits, name, getattr(self, name), "at least 0 and below 1")

    @property
    def text_heads(self) -> int:
        """Heads of the attention that pools a text."""
        return max(1, self.text_width // (64 if self.width > 4096 else 128))

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP."""
        return max(1, round(self.width * self.mlp_ratio / 256)) * 256


@MODELS.family("infinity", InfinityConfig)
class Infinity(NextScale):
    """The bitwise next-scale transformer. Its canvas is a multi-scale quantiser of bits.

    Args:
        config: see `InfinityConfig`.
    """

    config: InfinityConfig
    condition: TextFeatures | CaptionCondition
    head: BitwiseHead
    grows = True

    def __init__(self, config: InfinityConfig) -> None:
        super().__init__()
        self.config = config
        width, text_width = config.width, config.text_width
        self.condition = (
            TextFeatures(config.text_length, text_width)
            if config.condition == "text"
            else CaptionCondition(config.text_length, text_width, config.text_heads)
        )
        self.text_norm = RMSNorm(text_width, config.norm_eps)
        self.pool = TextPool(width, text_width, config.text_heads)
        self.text = nn.Sequential(
            Linear(text_width, width), nn.GELU(approximate="tanh"), Linear(width, width)
        )
        self.start = nn.Parameter(torch.empty(1, width))
        self.words = nn.Linear(config.bits, width)
        self.scales = nn.Embedding(config.levels, width)
        self.shared = Modulation(width)
        blocks = [self._block(layer) for layer in range(config.depth)]
        self.blocks = nn.ModuleList(blocks)
        self.norm = AdaLNOutput(width, config.norm_eps)
        self.output = nn.Linear(width, 2 * config.bits)
        self.head = BitwiseHead()
        initialise(self, blocks, self.norm, self.output, config.gate_gain)
        nn.init.trunc_normal_(self.start, std=(3 * width) ** -0.5)

    def _block(self, layer: int) -> AdaLNCrossBlock:
        config, width = self.config, self.config.width
        return AdaLNCrossBlock(
            width,
            CosineAttention(width, config.heads, layer),
            CrossAttention(width, width, config.heads),
            MLP(width, config.hidden, "gelu-tanh"),
            SharedModulation(width),
            config.norm_eps,
            config.drop_path * layer / max(1, config.depth - 1),
        )

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One scale a step."""
        first, count = len(tokens.layout.segments[0]), len(tokens.layout.segments)
        check(first == 1, "scales", first, "a list whose first scale is one token")
        check(count <= self.config.levels, "scales", count, f"at most {self.config.levels}")
        return scales(tokens.layout)

    def texts(self, packed: Packed) -> tuple[Tensor, Text]:
        """Return a pass's texts: pooled, float [R, 1, width], and word by word."""
        present = self.condition.present(packed.condition)
        length = int(present.any(0).nonzero().max()) + 1
        present = present[:, :length]
        seen = None if bool(present.all()) else present[:, None, None].to(packed.device)
        features = self.text_norm(self.condition.prefix(packed.condition)[:, :length])
        return self.pool(Text(features, seen)), Text(self.text(features), seen)

    def inputs(self, packed: Packed, vector: Tensor | None = None) -> Tensor:
        """The pooled text on the first scale, the canvas elsewhere; without the scales' vectors.

        Args:
            vector: the pooled text, where it is known already.
        """
        assert packed.fed is not None, "Infinity reads a canvas: set `canvas` to the tokenizer's"
        vector = self.texts(packed)[0] if vector is None else vector
        words = self.words(packed.fed.to(self.words.weight.dtype))
        return torch.where((packed.place == 0).unsqueeze(-1), vector + self.start, words)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits of every bit being 0 and 1, float [R, M, bits, 2]."""
        vector, text = self.texts(packed)
        x, shared = self.inputs(packed, vector), self.shared(vector)
        level = self.scales(packed.coordinates()[..., 0])
        rotation = self.rotation(packed.place, packed.tokens.layout, x.dtype)
        reading = memory.read(packed.rows, packed.slots, up_to)
        for index, block in enumerate(self.blocks):
            x = x + level if index in self.config.level_blocks else x
            x = block(x, reading, shared, rotation, text)
            x = guided_inside(x, packed.rows, index, len(self.blocks))
        reading.close()
        logits: Tensor = self.output(self.norm(packed.speaking(x), vector))
        return logits.unflatten(-1, (-1, 2))

    def loss(
        self,
        tokens: Tokens,
        condition: Condition,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every bit given all coarser scales, some of it flipped.

        Args:
            rng: also for flips; None: nothing is flipped.
            weight: float [N], how much each token counts; scales after the last that counts are
                left out of the pass. None: all alike.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        fed, targets = self.canvas.teach(tokens, rng)
        assert fed is not None and targets.ids is not None
        _, end = counted_scales(tokens.layout, weight)
        weight = None if weight is None else weight[:end].expand(len(tokens), end)
        logits = self.taught(tokens, fed[:, :end], condition)
        return self.head.loss(logits, targets.ids[:, :end], rng, weight)

    def taught(self, tokens: Tokens, fed: Tensor, condition: Condition) -> Tensor:
        """Return the logits of scales in one pass, float [B, n, bits, 2].

        Args:
            fed: float [B, n, bits], what the scales read: all, or the first so many.
        """
        count = tokens.layout.segment_at(fed.shape[1] - 1) + 1
        slots = batch([teacher_slots(tokens.layout, count)] * len(tokens))
        logits: Tensor = self(Packed(tokens, slots, [condition], fed=fed), NoMemory())
        return logits

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for all scales but the last, which nothing reads later."""
        config, weight = self.config, self.output.weight
        layouts = [row.tokens.layout for row in rows]
        kept = max((len(layout) - len(layout.segments[-1]) for layout in layouts), default=0)
        size = (config.depth, config.heads, config.width // config.heads, kept)
        return KeyValueMemory(*size, weight.device, weight.dtype)

    def rotation(self, place: Tensor, layout: Layout, dtype: torch.dtype) -> Tensor:
        """Return the rotations of tokens [R, L], see `projected_rotation`."""
        sizes = tuple(segment.size[1:] for segment in layout.segments)
        reference = reference_grid(sizes) if self.config.reference == "template" else sizes[-1]
        width = self.config.width // self.config.heads
        return projected_rotation(layout, place, width, reference, ROTARY_BASE, dtype)


def _register_variants() -> None:
    sizes = {  # name: width, depth, heads, bits, counted parameters
        "2b": (2048, 32, 16, 32, 2_204_564_032),
        "8b": (3584, 40, 28, 56, 8_375_791_824),
        "layer12": (768, 12, 8, 16, 125_148_800),
        "layer16": (1152, 16, 12, 16, 361_578_464),
        "layer24": (1536, 24, 16, 16, 940_871_072),
        "layer32": (2080, 32, 20, 16, None),
        "layer40": (2688, 40, 24, 16, None),
        "layer48": (3360, 48, 28, 16, None),
    }
    for name, (width, depth, heads, bits, published) in sizes.items():
        config = InfinityConfig(width, depth, heads, bits)
        MODELS.variant(f"infinity-{name}", "infinity", config, published)


_register_variants()
