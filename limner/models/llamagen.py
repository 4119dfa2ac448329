"""LlamaGen: a plain Llama decoder over raster-ordered VQ codes.

Sun et al., "Autoregressive Model Beats Diffusion: Llama for Scalable Image Generation",
arXiv:2406.06525; facts from autoregressive/models/gpt.py of FoundationVision/LlamaGen.

A class (one prefix place) or a text (120 places) is followed by the codes in raster order; the
output at a place speaks for the next one. No inductive bias for pictures but 2-D rotary positions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn

from limner.conditions import (
    CaptionCondition,
    ClassCondition,
    DescriptionCondition,
    TextCondition,
)
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import ABSENT, Slots, batch, concatenate, up_to
from limner.core.tokens import Tokens
from limner.heads.categorical import CategoricalHead
from limner.layers.codes import projected_codes
from limner.layers.decoder_block import DecoderBlock
from limner.layers.dropout import Dropout
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.linear import Linear
from limner.layers.norms import RMSNorm
from limner.layers.rotary import grid_rotation
from limner.orders import raster


@dataclass(frozen=True)
class LlamaGenConfig:
    """Configuration of LlamaGen.

    Args:
        width: of the sequence.
        depth: number of blocks.
        heads: of each attention.
        codebook_size: V, number of codes.
        condition: "class"; "text", features of a frozen text encoder; or, limner's own that need no
            weights, "caption", a small text encoder that is trained with the generator, and
            "description", a caption, a style and a class.
        classes: number of classes, for conditions with a class.
        styles: number of styles, for the description.
        text_length: places of text in the prefix.
        text_width: of the text features, for the text condition.
        rotary_base: of the 2-D rotary positions.
        norm_eps: of the RMS norms.
        multiple_of: the MLP's hidden width is rounded up to a multiple of it.
        dropout: on embeddings, attention outputs and MLP outputs, in training.
        condition_dropout: share of conditions replaced by the null condition in training.
    """

    width: int = 768
    depth: int = 12
    heads: int = 12
    codebook_size: int = 16384
    condition: Literal["class", "text", "caption", "description"] = "class"
    classes: int = 1000
    styles: int = 1
    text_length: int = 120
    text_width: int = 2048
    rotary_base: float = 10000.0
    norm_eps: float = 1e-5
    multiple_of: int = 256
    dropout: float = 0.1
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        positive = ("width", "depth", "heads", "codebook_size", "classes", "styles")
        for name in (*positive, "text_length", "text_width", "multiple_of"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        unit = self.head_unit
        fits = self.width % (unit * self.heads) == 0
        accepted = f"a multiple of {unit} x heads ({unit * self.heads})"
        check(fits, "width", self.width, accepted)
        known = " or ".join(CONDITIONS)
        check(self.condition in CONDITIONS, "condition", self.condition, known)
        check(0 <= self.dropout < 1, "dropout", self.dropout, "at least 0 and below 1")
        share = self.condition_dropout
        check(0 <= share <= 1, "condition_dropout", share, "from 0 to 1")

    @property
    def hidden(self) -> int:
        """Hidden width of the MLP: 8/3 of the width, rounded down, then up to `multiple_of`."""
        return -(-int(2 * 4 * self.width / 3) // self.multiple_of) * self.multiple_of

    @property
    def head_unit(self) -> int:
        """What a head's width is a multiple of: rows and columns turn pairs of channels."""
        return 4

    @property
    def blocks(self) -> int:
        """Number of blocks in all."""
        return self.depth


class LlamaBlock(DecoderBlock):
    """A block of the size that a configuration states."""

    def __init__(self, config: LlamaGenConfig, layer: int) -> None:
        size = (config.width, config.heads, layer, config.hidden, config.norm_eps)
        super().__init__(*size, dropout=config.dropout)


Prefix = ClassCondition | TextCondition | CaptionCondition | DescriptionCondition


CONDITIONS: dict[str, Callable[[LlamaGenConfig], Prefix]] = {
    "class": lambda c: ClassCondition(c.classes, c.width),
    "text": lambda c: TextCondition(c.text_length, c.text_width, c.width),
    "caption": lambda c: CaptionCondition(c.text_length, c.width, c.heads),
    "description": lambda c: DescriptionCondition(c.classes, c.styles, c.text_length, c.width),
}


@MODELS.family("llamagen", LlamaGenConfig)
class LlamaGen(Generator):
    """The Llama decoder with a prefix of conditions.

    Args:
        config: see `LlamaGenConfig`.
    """

    config: LlamaGenConfig
    condition: Prefix
    head: CategoricalHead

    def __init__(self, config: LlamaGenConfig) -> None:
        super().__init__()
        self.config = config
        self.condition = CONDITIONS[config.condition](config)
        self.tokens = nn.Embedding(config.codebook_size, config.width)
        self.dropout = Dropout(config.dropout)
        self.blocks = nn.ModuleList(LlamaBlock(config, layer) for layer in range(config.blocks))
        self.norm = RMSNorm(config.width, config.norm_eps)
        self.output = Linear(config.width, config.codebook_size, bias=False)
        self.head = CategoricalHead()
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, (nn.Linear, nn.Embedding)):
                nn.init.normal_(module.weight, std=0.02)
        nn.init.zeros_(self.output.weight)

    @torch.no_grad()
    def start_from_codes(self, vectors: Tensor, rng: torch.Generator) -> None:
        """Begin with embeddings and outputs that are alike for codes that look alike.

        Not part of the paper; see `projected_codes`.
        """
        projected = projected_codes(vectors, self.config.width, rng)
        self.tokens.weight.copy_(0.3 * projected)
        self.output.weight.copy_(0.05 * projected)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """Raster: one token a step."""
        return raster(tokens.layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The prefix at first, then the token just drawn; each speaks for the next place."""
        if step.index > 0:
            return _token_slot(step.index - 1)
        return prefix_slots(tuple(self.condition.present(row.condition)[0].tolist()))

    def teacher_slots(self, layout: Layout, condition: Condition) -> Slots:
        """Return the slots of every step at once, fields [B, L], as training reads them."""
        present = self.condition.present(condition).tolist()
        return batch([_teacher_slots(tuple(row), len(layout)) for row in present])

    def inputs(self, packed: Packed) -> Tensor:
        """The condition's vectors on prefix slots, the tokens' embeddings elsewhere."""
        embedded: Tensor = self.tokens(packed.ids()[..., 0])
        if not bool((packed.slots.place < 0).any()):
            return embedded
        prefix = self.condition.prefix(packed.condition)
        entry = (packed.place + prefix.shape[1]).clamp(0, prefix.shape[1] - 1).unsqueeze(-1)
        given = prefix.gather(1, entry.expand(-1, -1, prefix.shape[2]))
        return torch.where(packed.place.unsqueeze(-1) < 0, given, embedded)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits, float [R, M, V]."""
        logits: Tensor = self.output(self.hidden(packed, memory))
        return logits

    def hidden(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what logits are a linear map of, float [R, M, width]."""
        x = self.dropout(self.inputs(packed))
        rotation = self.rotation(packed)
        reading = memory.read(packed.rows, packed.slots, up_to)
        for block in self.blocks:
            x = block(x, reading, rotation)
        reading.close()
        speaking: Tensor = self.norm(packed.speaking(x))
        return speaking

    def rotation(self, packed: Packed) -> Tensor:
        """Return each slot's rotation, float [R, 1, L, d / 2, 2]; zeros on prefix slots."""
        config = self.config
        wide = torch.promote_types(self.tokens.weight.dtype, torch.float32)
        table = grid_rotation(
            packed.tokens.layout,
            config.width // config.heads,
            config.rotary_base,
            packed.device,
            wide,
        )
        return table[(packed.place + 1).clamp(min=0)].unsqueeze(1)

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of every token given the earlier ones."""
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        packed = Packed(tokens, self.teacher_slots(tokens.layout, condition), [condition])
        assert tokens.ids is not None
        hidden = self.hidden(packed, NoMemory())
        return self.head.projected_loss(hidden, self.output.weight, tokens.ids)

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for the prefix and all tokens but the last."""
        config, weight = self.config, self.tokens.weight
        longest = max(len(row.tokens.layout) for row in rows)
        return KeyValueMemory(
            config.blocks,
            config.heads,
            config.width // config.heads,
            self.condition.length + longest,
            weight.device,
            weight.dtype,
        )


@lru_cache(maxsize=4096)
def _token_slot(place: int) -> Slots:
    """The slot of a token just drawn, which speaks for the next place."""
    return Slots.of(
        torch.tensor([place]), torch.tensor([place + 1]), torch.tensor([[0, 0, place + 1]])
    )


@lru_cache(maxsize=256)
def prefix_slots(present: tuple[bool, ...], heads: int = 1) -> Slots:
    """The prefix, causal and without its padding; its last slot speaks for token 0.

    Args:
        heads: with which it does.
    """
    length = len(present)
    place = torch.arange(-length, 0)
    since = torch.where(torch.tensor(present), place + 1, ABSENT)
    return Slots.of(place, since, torch.tensor([[length - 1, head, 0] for head in range(heads)]))


@lru_cache(maxsize=256)
def _teacher_slots(present: tuple[bool, ...], count: int) -> Slots:
    return concatenate([prefix_slots(present), *(_token_slot(i) for i in range(count - 1))])


def _register_variants() -> None:
    sizes = {  # name: width, depth, heads, published count
        "b": (768, 12, 12, "111M"),
        "l": (1024, 24, 16, "343M"),
        "xl": (1280, 36, 20, "775M"),
        "xxl": (1536, 48, 24, "1.4B"),
        "xxxl": (2560, 48, 40, "3.9B"),
        "1b": (2048, 22, 32, "1.2B"),
        "3b": (3200, 24, 32, "3.1B"),
        "7b": (4096, 32, 32, "6.6B"),
    }
    for name, (width, depth, heads, published) in sizes.items():
        config = LlamaGenConfig(width, depth, heads)
        MODELS.variant(f"llamagen-{name}", "llamagen", config, published)
    xl = LlamaGenConfig(1280, 36, 20, condition="text")
    # the README gives 775M for both XL models, which is the count of the class-conditional one
    MODELS.variant("llamagen-t2i-xl", "llamagen", xl)


_register_variants()
