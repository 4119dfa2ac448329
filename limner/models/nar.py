"""NAR: LlamaGen's decoder over codes drawn a diagonal at a time, a head for every dimension.

He et al., "Neighboring Autoregressive Modeling for Efficient Visual Generation", arXiv:2503.10696;
facts from NAR-images/autoregressive/models/{gpt,generate}.py and NAR-videos/models/larp_ar.py of
ThisisBillhe/NAR.

All codes of one distance from the first are drawn at once: 2n - 1 passes for n x n codes. One head
tells the code to the right, one the code below, for clips one the code of the next frame; the heads
after the first read further blocks. Codes that several neighbours tell have the mean of their
logits. Clips (on LARP's codes) have a table of places instead of rotary positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch, concatenate, up_to
from limner.core.tokens import Tokens
from limner.layers.dimension_heads import by_norms, by_outputs, side_by_side
from limner.layers.linear import Linear
from limner.layers.norms import RMSNorm
from limner.layers.sine_places import line_places
from limner.models.llamagen import LlamaGen, LlamaGenConfig, prefix_slots
from limner.orders.neighbours import all_slots, next_neighbour, shares, step_slots


@dataclass(frozen=True)
class NARConfig(LlamaGenConfig):
    """Configuration of NAR: that of LlamaGen, and of its heads and places.

    Args:
        deeper: blocks that each head after the first reads beyond those of the head before: of the
            one below for pictures, of the one below and the one of the next frame for clips.
        places: "rotary", or a table of one vector a place: "learned" or fixed "sines".
        tokens: N, length of the sequence, where places are a table; else of no use.
    """

    deeper: tuple[int, ...] = (1,)
    places: Literal["rotary", "learned", "sines"] = "rotary"
    tokens: int = 1024

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = len(self.deeper) in (1, 2) and min(self.deeper) >= 0
        check(fits, "deeper", self.deeper, "one number (pictures) or two (clips), 0 or more")
        known = ("rotary", "learned", "sines")
        check(self.places in known, "places", self.places, " or ".join(known))
        check(self.tokens > 0, "tokens", self.tokens, "1 or more")

    @property
    def head_unit(self) -> int:
        """What a head's width is a multiple of; a table of places asks for nothing."""
        return super().head_unit if self.places == "rotary" else 1

    @property
    def blocks(self) -> int:
        """Number of blocks in all."""
        return self.depth + sum(self.deeper)


@MODELS.family("nar", NARConfig)
class NAR(LlamaGen):
    """The Llama decoder with a head for every dimension.

    Args:
        config: see `NARConfig`.
    """

    config: NARConfig
    table: Tensor | None

    def __init__(self, config: NARConfig) -> None:
        super().__init__(config)
        size = (config.width, config.codebook_size)
        self.further_norms = nn.ModuleList(
            RMSNorm(config.width, config.norm_eps) for _ in config.deeper
        )
        self.further_outputs = nn.ModuleList(Linear(*size, bias=False) for _ in config.deeper)
        for output in self.outputs[1:]:
            # as released: of pictures only the first head begins at zero, of clips all do
            nn.init.normal_(output.weight, std=0.02 if len(config.deeper) == 1 else 0.0)
        self._add_table()

    def _add_table(self) -> None:
        config, count = self.config, self.condition.length + self.config.tokens
        if config.places == "learned":
            self.table = nn.Parameter(0.02 * torch.randn(count, config.width))
        elif config.places == "sines":
            self.register_buffer("table", line_places(count, config.width).float())
        else:
            self.table = None

    @property
    def norms(self) -> list[nn.Module]:
        """Before the output of every head: to the right, below, of the next frame."""
        return [self.norm, *self.further_norms]

    @property
    def outputs(self) -> list[Any]:
        """Of every head, in the same order."""
        return [self.output, *self.further_outputs]

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, rng: torch.Generator) -> None:
        """See `LlamaGen.start_from_codes`; all heads begin alike."""
        super().start_from_codes(vectors, rng)
        for output in self.outputs[1:]:
            output.weight.copy_(self.output.weight)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """All tokens of one distance from the first a step."""
        self.check_layout(tokens.layout)
        return next_neighbour(tokens.layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The prefix at first, then the tokens just drawn; each speaks for its neighbours."""
        heads = len(self.outputs)
        if step.index > 0:
            return step_slots(row.tokens.layout, heads, step.index)
        present = self.condition.present(row.condition)[0].tolist()
        return prefix_slots(tuple(present), heads)

    def teacher_slots(self, layout: Layout, condition: Condition) -> Slots:
        """Return the slots of the prefix and of all tokens, fields [B, L], as training reads them.

        The entries that speak are the same for all rows.
        """
        heads = len(self.outputs)
        present = self.condition.present(condition).tolist()
        return batch([_teacher_slots(tuple(row), layout, heads) for row in present])

    def inputs(self, packed: Packed) -> Tensor:
        """The condition's vectors on prefix slots, embedded codes elsewhere; and places."""
        contents = super().inputs(packed)
        if self.table is None:
            return contents
        return contents + self.table[packed.place + self.condition.length]

    def streams(self, packed: Packed, memory: Memory) -> list[Tensor]:
        """Return what each head reads, before its norm, float [R, L, width]."""
        x = self.dropout(self.inputs(packed))
        rotation = self.rotation(packed) if self.table is None else None
        reading = memory.read(packed.rows, packed.slots, up_to)
        read, start = [], 0
        for count in (self.config.depth, *self.config.deeper):
            for block in self.blocks[start : start + count]:
                x = block(x, reading, rotation)
            start += count
            read.append(x)
        reading.close()
        return read

    def hidden(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what logits are a linear map of, each entry's by its head: float [R, M, width]."""
        return by_norms(self.streams(packed, memory), self.norms, packed.slots.speaks)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits, float [R, M, V]."""
        return by_outputs(self.hidden(packed, memory), self.outputs, packed.slots.speaks)

    def mixed(self, tokens: Tokens, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return vectors of all tokens and the weights of which their mean logits are the product.

        Returns:
            float [B, N, heads width]; float [V, heads width].
        """
        self.check_layout(tokens.layout)
        slots = self.teacher_slots(tokens.layout, condition)
        hidden = self.hidden(Packed(tokens, slots, [condition]), NoMemory())
        share = shares(tokens.layout, len(self.outputs))
        side = side_by_side(hidden, slots.speaks[0], share)
        return side, torch.cat([output.weight for output in self.outputs], dim=1)

    def teach(self, tokens: Tokens, condition: Condition) -> Tensor:
        """Return the mean logits of all tokens given the earlier ones, float [B, N, V]."""
        return functional.linear(*self.mixed(tokens, condition))

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every token given those nearer to the first."""
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        assert tokens.ids is not None
        return self.head.projected_loss(*self.mixed(tokens, condition), tokens.ids)

    def check_layout(self, layout: Layout) -> None:
        """Raise ConfigError for clips in a model of pictures, and where the table does not fit."""
        clip, frames = len(self.config.deeper) == 2, layout.extent[0]
        check(clip or frames == 1, "frames", frames, "1: this model draws pictures")
        fits = self.table is None or len(layout) == self.config.tokens
        accepted = f"{self.config.tokens}, as this model's places are a table"
        check(fits, "tokens", len(layout), accepted)


@lru_cache(maxsize=256)
def _teacher_slots(present: tuple[bool, ...], layout: Layout, heads: int) -> Slots:
    return concatenate([prefix_slots(present, heads), all_slots(layout, heads)])


def _register_variants() -> None:
    sizes = {  # depth, width, heads; count
        "b": (12, 768, 12, "130.6M"),
        "m": (18, 1024, 16, "295.5M"),
        "l": (24, 1024, 16, "372.5M"),
        "xl": (36, 1280, 20, "816.0M"),
        "xxl": (48, 1536, 24, "1.464B"),
    }
    for name, (depth, width, heads, published) in sizes.items():
        MODELS.variant(f"nar-{name}", "nar", NARConfig(width, depth, heads), published)
    xl = NARConfig(1280, 36, 20, condition="text")
    MODELS.variant("nar-t2i-xl", "nar", xl, "819.0M")
    clips = {
        "s": (12, 384, 6, "37.8M"),
        "b": (12, 768, 12, "125.1M"),
        "l": (24, 1024, 16, "368.7M"),
        "lp": (30, 1280, 20, "693.6M"),
        "xl": (36, 1280, 20, "815.5M"),
    }
    for name, (depth, width, heads, published) in clips.items():
        size = (width, depth, heads, 8192)
        config = NARConfig(*size, classes=101, deeper=(1, 1), places="learned")
        MODELS.variant(f"nar-clip-{name}", "nar", config, published)


_register_variants()
