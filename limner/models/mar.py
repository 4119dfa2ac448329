"""MAR: masked autoregression over continuous tokens, each drawn by a diffusion head.

Li et al., "Autoregressive Image Generation without Vector Quantization", arXiv:2406.11838; facts
from models/mar.py of LTH14/mar.

An encoder reads the tokens known so far behind a buffer of copies of the class vector; a decoder
fills the places of the others with one learned vector and gives an output for each. Attention is
bidirectional and the order random, so nothing is remembered between steps.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import ABSENT, Slots, batch, everything
from limner.core.tokens import Tokens
from limner.heads.diffusion import EVALUATION_SEED, DiffusionConfig, DiffusionHead
from limner.layers.linear import Linear
from limner.layers.vision_transformer import StackConfig, VisionBlock
from limner.orders.masking import random_mask
from limner.orders.random import random_partition, shuffled

EPS = 1e-6


@dataclass(frozen=True)
class MARConfig:
    """Configuration of MAR.

    Args:
        encoder: reads what is known.
        decoder: gives an output for every place.
        head: draws a token from its output.
        tokens: N, length of the sequence; places are learned, so it is fixed.
        token_width: D of a token.
        classes: number of classes, the null class not counted.
        buffer: places in front of the tokens, all filled with the class vector.
        steps: generation steps when a caller does not say.
        least_masked: smallest share of tokens that is masked in training.
        attention_dropout: on attention weights, in training.
        dropout: on attention outputs and in the MLPs, in training.
        condition_dropout: share of conditions replaced by the null condition in training.
    """

    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    head: DiffusionConfig = field(default_factory=DiffusionConfig)
    tokens: int = 256
    token_width: int = 16
    classes: int = 1000
    buffer: int = 64
    steps: int = 64
    least_masked: float = 0.7
    attention_dropout: float = 0.1
    dropout: float = 0.1
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("tokens", "token_width", "classes", "buffer", "steps"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        for name in ("attention_dropout", "dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")
        share = self.least_masked
        check(0 < share < 1, "least_masked", share, "above 0 and below 1")


@MODELS.family("mar", MARConfig)
class MAR(Generator):
    """The masked encoder-decoder with a diffusion head.

    Args:
        config: see `MARConfig`.
    """

    config: MARConfig
    head: DiffusionHead
    condition: ClassCondition
    guidance = "drawn"

    def __init__(self, config: MARConfig) -> None:
        super().__init__()
        self.config = config
        inner, outer = config.encoder.width, config.decoder.width
        places = config.buffer + config.tokens
        self.condition = ClassCondition(config.classes, inner)
        self.into = nn.Linear(config.token_width, inner)
        self.encoder_places = nn.Parameter(torch.zeros(1, places, inner))
        self.into_norm = nn.LayerNorm(inner, EPS)
        self.encoder = _stack(config, config.encoder, first=0)
        self.encoder_norm = nn.LayerNorm(inner, EPS)
        self.between = Linear(inner, outer)
        self.mask_token = nn.Parameter(torch.zeros(1, 1, outer))
        self.decoder_places = nn.Parameter(torch.zeros(1, places, outer))
        self.decoder = _stack(config, config.decoder, first=config.encoder.depth)
        self.decoder_norm = nn.LayerNorm(outer, EPS)
        self.output_places = nn.Parameter(torch.zeros(1, config.tokens, outer))
        self._initialise()
        self.head = DiffusionHead(config.token_width, outer, config.head)

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        places = (self.encoder_places, self.decoder_places, self.output_places)
        for table in (self.condition.table.weight, self.mask_token, *places):
            nn.init.normal_(table, std=0.02)

    @property
    def blocks(self) -> list[nn.Module]:
        """What is worth compiling."""
        return [*self.encoder, *self.decoder, *self.head.denoiser.blocks]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """The unknown tokens in random order, cut into steps by the cosine schedule."""
        self._check(tokens.layout)
        unknown = (~tokens.known[0]).nonzero().squeeze(-1).cpu()
        steps = options.steps or min(self.config.steps, len(unknown))
        return random_partition(shuffled(unknown, noise), steps, len(tokens.layout))

    def slots(self, row: Row, step: Step) -> Slots:
        """The buffer and all tokens; those drawn now speak for themselves."""
        return _slots(self.config.buffer, len(row.tokens.layout), step.draw)

    def inputs(self, packed: Packed) -> Tensor:
        """Class vectors on buffer slots, contents elsewhere, and their places: [R, L, width]."""
        contents = self.into(packed.values().to(self.into.weight.dtype))
        prefix = (packed.place < 0).unsqueeze(-1)
        x = torch.where(prefix, self.condition.prefix(packed.condition), contents)
        return x + self._places(self.encoder_places, packed)

    def encode(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the encodings of each row's known slots in their order, float [R, K, width].

        K is the largest number of known slots; rows that know fewer are padded with absent slots.
        """
        known = packed.known()
        counts = known.sum(1, keepdim=True)
        present = torch.arange(int(counts.max()), device=known.device) < counts
        # padding reads slot 0: unknown contents, whatever they are, never enter
        order = known.byte().argsort(dim=1, descending=True, stable=True)
        index = order[:, : present.shape[1]].masked_fill(~present, 0)
        reading = memory.read(packed.rows, _chosen(packed.slots, index, present), everything)
        x = _take(self.into_norm(self.inputs(packed)), index)
        for block in self.encoder:
            x = block(x, reading)
        reading.close()
        encoded: Tensor = self.encoder_norm(x)
        return encoded

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what the head draws tokens from, float [R, M, decoder width]."""
        encoded = self.between(self.encode(packed, memory))
        known = packed.known()
        # the k-th known slot of a row is the k-th that the encoder read
        rank = (known.cumsum(1) - 1).clamp(min=0)
        x = torch.where(known.unsqueeze(-1), _take(encoded, rank), self.mask_token)
        x = x + self._places(self.decoder_places, packed)
        reading = memory.read(packed.rows, packed.slots, everything)
        for block in self.decoder:
            x = block(x, reading)
        reading.close()
        token = packed.slots.speaks[..., 2].clamp(min=0).to(packed.device)
        return packed.speaking(self.decoder_norm(x)) + self.output_places[0][token]

    def _places(self, table: Tensor, packed: Packed) -> Tensor:
        return table[0][packed.place + self.config.buffer]

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the head's loss on randomly masked tokens, given the others."""
        self._check(tokens.layout)
        teaching = rng is not None
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        if teaching:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        size = (len(tokens), self.config.tokens)
        masked = random_mask(*size, self.config.least_masked, rng, spread_out=not teaching)
        assert tokens.values is not None
        masked = masked.to(tokens.values.device)
        outputs = self(self.masked(tokens, condition, masked), NoMemory())
        return self.head.loss(outputs, tokens.values, rng, masked)

    def masked(self, tokens: Tokens, condition: Condition, masked: Tensor) -> Packed:
        """Return the pass over tokens [B, N] of which some are masked, and in which all speak.

        Args:
            masked: bool [B, N].
        """
        slots = _slots(self.config.buffer, len(tokens.layout), torch.arange(self.config.tokens))
        visible = Tokens(tokens.layout, None, tokens.values, ~masked)
        return Packed(visible, batch([slots] * len(tokens)), [condition])

    def _check(self, layout: Layout) -> None:
        fits = len(layout) == self.config.tokens
        check(
            fits, "tokens", len(layout), f"{self.config.tokens}, as this model's places are learned"
        )


def _stack(config: MARConfig, stack: StackConfig, first: int) -> nn.ModuleList:
    """Return the blocks of a stack whose layers are numbered from `first`."""
    dropout = (config.attention_dropout, config.dropout)
    return nn.ModuleList(
        VisionBlock(stack.width, stack.heads, first + index, stack.ratio, *dropout, eps=EPS)
        for index in range(stack.depth)
    )


def _take(x: Tensor, index: Tensor) -> Tensor:
    """Return float [R, K, D] of [R, L, D] at index [R, K]."""
    return x.gather(1, index.unsqueeze(-1).expand(-1, -1, x.shape[-1]))


@lru_cache(maxsize=64)
def _places(buffer: int, count: int) -> tuple[Tensor, Tensor]:
    place = torch.arange(-buffer, count)
    return place, torch.zeros_like(place)


def _slots(buffer: int, count: int, draw: Tensor) -> Slots:
    """All places at every step; nothing is kept, as every pass reads everything."""
    place, since = _places(buffer, count)
    speaks = torch.stack([draw + buffer, torch.zeros_like(draw), draw], dim=1)
    return Slots.of(place, since, speaks, commit=False)


def _chosen(slots: Slots, index: Tensor, present: Tensor) -> Slots:
    """Return the slots at index [R, K], absent where not present; they do not speak."""
    index, present = index.cpu(), present.cpu()
    place, since, copy, commit = (
        field.gather(1, index) for field in (slots.place, slots.since, slots.copy, slots.commit)
    )
    return Slots(place, since.masked_fill(~present, ABSENT), copy, commit, slots.speaks[:, :0])


def _register_variants() -> None:
    sizes = {  # name: width, depth and heads of both stacks; width, depth of the denoiser; count
        "base": (768, 12, 12, 1024, 6, "207.92M"),
        "large": (1024, 16, 16, 1280, 8, "478.33M"),
        "huge": (1280, 20, 16, 1536, 12, "942.40M"),
    }
    for name, (width, depth, heads, denoiser, blocks, published) in sizes.items():
        stack, head = StackConfig(width, depth, heads), DiffusionConfig(denoiser, blocks)
        MODELS.variant(f"mar-{name}", "mar", MARConfig(stack, stack, head), published)


_register_variants()
