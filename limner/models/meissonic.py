"""Meissonic: masked generation of all codes at once by a transformer over text and picture.

Bai et al., "Meissonic: Revitalizing Masked Generative Transformers for Efficient High-Resolution
Text-to-Image Synthesis", arXiv:2410.08261; facts from src/{transformer,scheduler,pipeline}.py and
train/train_meissonic.py of viiika/Meissonic.

Every pass reads all codes, unknown ones as a mask, and says something of each. All unknown codes
are drawn, and those least sure are masked again. Two streams of blocks come first, then one; at
1024 px four neighbouring codes are one token in between. Size and crop of a picture, how much it
is liked, and the share that is masked modulate all blocks.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.conditions.pooled_text import PooledCaption, PooledText
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout, grid
from limner.core.memory import Memory, NoMemory, PassReading
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch
from limner.core.tokens import Tokens
from limner.heads.categorical import CategoricalHead
from limner.layers.condition_vector import ConditionVector
from limner.layers.grid_compression import DoubleGrid, HalveGrid
from limner.layers.joint_transformer import JointBlock, SingleBlock
from limner.layers.linear import Linear
from limner.layers.norms import RMSNorm
from limner.layers.rotary import axes_rotation
from limner.orders.confidence import ConfidenceOrder, Remasking
from limner.orders.masking import cosine_share, masked_front

EPS = 1e-6


@dataclass(frozen=True)
class MeissonicConfig:
    """Configuration of Meissonic.

    Args:
        heads: of every attention.
        head_width: of a head; heads times it is the width.
        joint: number of blocks with two streams.
        single: number of blocks with one.
        axes: channels of a head that text, rows and columns turn; they sum to `head_width`.
        codebook_size: V, number of codes.
        spare: rows of the embedding beyond the codes; the last one is the mask.
        compresses: four neighbouring codes are one token inside.
        condition: "text", features of a frozen text encoder; or "caption", a small one that is
            trained along (limner's own, needs no weights).
        text_length: T, places of text.
        text_width: of the text encoder's features.
        steps: generation steps when a caller does not say.
        heat: weight of the noise on confidences at the first step and the last.
        least_masked: smallest share of codes that is masked in training.
        condition_dropout: share of texts replaced by the empty one in training.
        score: how much people like the picture, as it is told in sampling and training.
        pixels: that a code covers along each side, for the sizes that are told.
        rotary_base: of the rotary positions.
    """

    heads: int = 8
    head_width: int = 128
    joint: int = 14
    single: int = 28
    axes: tuple[int, int, int] = (16, 56, 56)
    codebook_size: int = 8192
    spare: int = 64
    compresses: bool = True
    condition: Literal["text", "caption"] = "text"
    text_length: int = 77
    text_width: int = 1024
    steps: int = 64
    heat: tuple[float, float] = (2.0, 0.0)
    least_masked: float = 0.0
    condition_dropout: float = 0.1
    score: float = 6.0
    pixels: int = 16
    rotary_base: float = 10000.0

    def __post_init__(self) -> None:
        positive = ("heads", "head_width", "codebook_size", "spare", "text_length", "text_width")
        for name in (*positive, "steps", "pixels", "rotary_base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("joint", "single"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")
        fits = len(self.axes) == 3 and sum(self.axes) == self.head_width
        fits = fits and all(width >= 0 and width % 2 == 0 for width in self.axes)
        accepted = f"three even numbers that sum to head_width ({self.head_width})"
        check(fits, "axes", self.axes, accepted)
        known = " or ".join(CONDITIONS)
        check(self.condition in CONDITIONS, "condition", self.condition, known)
        for name in ("least_masked", "condition_dropout"):
            check(0 <= getattr(self, name) <= 1, name, getattr(self, name), "from 0 to 1")
        Remasking(self.steps, heat=self.heat)

    @property
    def width(self) -> int:
        """Of both streams."""
        return self.heads * self.head_width

    @property
    def mask(self) -> int:
        """The id that stands for an unknown code."""
        return self.codebook_size + self.spare - 1


CONDITIONS: dict[str, Callable[[MeissonicConfig], PooledText | PooledCaption]] = {
    "text": lambda c: PooledText(c.text_length, c.text_width, c.width),
    "caption": lambda c: PooledCaption(c.text_length, c.width, c.heads),
}


@MODELS.family("meissonic", MeissonicConfig)
class Meissonic(Generator):
    """The masked transformer over text and picture.

    Args:
        config: see `MeissonicConfig`.
    """

    config: MeissonicConfig
    condition: PooledText | PooledCaption
    head: CategoricalHead

    def __init__(self, config: MeissonicConfig) -> None:
        super().__init__()
        self.config = config
        width, heads = config.width, config.heads
        self.condition = CONDITIONS[config.condition](config)
        text_width = config.text_width if config.condition == "text" else width
        self.codes = nn.Embedding(config.codebook_size + config.spare, width)
        self.codes_norm = RMSNorm(width, EPS)
        self.codes_out = Linear(width, width, bias=False)
        self.text = Linear(text_width, width)
        self.text_norm = RMSNorm(width, EPS)
        self.vector = ConditionVector(width, numbers=5)
        self.compress = HalveGrid(width) if config.compresses else None
        self.into_norm = RMSNorm(width, EPS)
        self.into = Linear(width, width, bias=False)
        self.joint = nn.ModuleList(JointBlock(width, heads, i) for i in range(config.joint))
        self.single = nn.ModuleList(
            SingleBlock(width, heads, config.joint + i) for i in range(config.single)
        )
        self.out_norm = RMSNorm(width, EPS)
        self.out = Linear(width, width, bias=False)
        self.restore = DoubleGrid(width) if config.compresses else None
        self.output_into = Linear(width, width, bias=False)
        self.output_norm = RMSNorm(width, EPS)
        self.output = Linear(width, config.codebook_size, bias=False)
        self.head = CategoricalHead()

    @property
    def blocks(self) -> list[nn.Module]:
        """What is worth compiling."""
        return [*self.joint, *self.single]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """All unknown codes at every step; the least sure ones again.

        Beside codes that are given the schedule is linear, as released.
        """
        self._check(tokens.layout)
        known = tokens.known[0].float().mean().item()
        unknown = len(tokens.layout) - int(tokens.known.sum())
        steps = options.steps or min(self.config.steps, max(1, unknown))
        check(steps <= max(1, unknown), "steps", steps, f"at most the {unknown} tokens to draw")
        schedule: Literal["cosine", "linear"] = "linear" if known else "cosine"
        return ConfidenceOrder(Remasking(steps, schedule, self.config.heat, 1 - known))

    def _check(self, layout: Layout) -> None:
        even = all(side % 2 == 0 for side in layout.extent[1:])
        fits = len(layout.segments) == 1 and (even or not self.config.compresses)
        shown = "x".join(map(str, layout.extent[1:]))
        check(fits, "grid", shown, "one grid of an even number of rows and columns")

    def vary(
        self,
        tokens: Tokens,
        condition: Condition,
        options: Options,
        noise: Noise,
        strength: float,
    ) -> list[Row]:
        """Return the rows of a picture that is drawn from a given one on, as of a late step.

        Args:
            tokens: a batch of one, all known.
            strength: share of the steps that are taken.
        """
        check(0 < strength < 1, "strength", strength, "above 0 and below 1")
        steps = options.steps or self.config.steps
        begin = steps - int(steps * strength)
        check(0 < begin < steps, "strength", strength, f"enough for one of {steps} steps")
        config = Remasking(steps, heat=self.config.heat)
        every = torch.arange(len(tokens.layout))
        lost = config.unknown(noise.uniform("vary", every, 0), begin - 1)
        blank = Tokens(tokens.layout, tokens.ids, None, torch.zeros_like(tokens.known))
        rows = self.begin(blank, condition, options, noise)
        for row in rows:
            row.order, row.step = ConfidenceOrder(config), begin
        rows[0].tokens.known[0] = ~lost.to(tokens.known.device)
        return rows

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows of one picture, which is told to be uncropped and well liked."""
        told = {"numbers": self.numbers(tokens.layout, 1), **condition}
        return super().begin(tokens, told, options, noise)

    def numbers(self, layout: Layout, count: int) -> Tensor:
        """Return width and height in pixels, cuts at the top and left, score: float [count, 5]."""
        rows, columns = (side * self.config.pixels for side in layout.extent[1:])
        return torch.tensor([columns, rows, 0, 0, self.config.score]).expand(count, 5)

    def null(self, condition: Condition) -> Condition:
        """The empty text, or a negative one where it is given."""
        return {**condition, **self.condition.null(condition)}

    def slots(self, row: Row, step: Step) -> Slots:
        """All codes; those drawn now speak for themselves."""
        return _slots(len(row.tokens.layout), step.draw)

    def inputs(self, packed: Packed) -> Tensor:
        """The codes, unknown ones as the mask, float [R, N, width]."""
        ids = packed.ids()[..., 0].where(packed.known(), self.config.mask)
        embedded: Tensor = self.codes_out(self.codes_norm(self.codes(ids)))
        return embedded

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits, float [R, M, V]."""
        text, pooled = self.condition.read(packed.condition)
        numbers = packed.condition["numbers"].to(packed.device)
        weight = self.output.weight
        text = self.text_norm(self.text(text.to(weight)))
        vector = self.vector(pooled.to(weight), numbers, self.time(packed)).unsqueeze(1)
        size = packed.tokens.layout.extent[1:]
        x = self.inputs(packed).unflatten(1, size)
        x = x if self.compress is None else self.compress(x)
        inner = (x.shape[1], x.shape[2])
        x = self.into(self.into_norm(x.flatten(1, 2)))
        rotation = self.rotation(inner, text.shape[1], weight.device)
        reading = PassReading()  # text and picture see each other, at every pass anew
        for block in self.joint:
            text, x = block(text, x, reading, vector, rotation)
        both = torch.cat([text, x], dim=1)
        for block in self.single:
            both = block(both, reading, vector, rotation)
        x = self.out(self.out_norm(both[:, text.shape[1] :]))
        if self.restore is not None:
            x = self.restore(x.unflatten(1, inner)).flatten(1, 2)
        logits: Tensor = self.output(self.output_norm(self.output_into(packed.speaking(x))))
        return logits

    def time(self, packed: Packed) -> Tensor:
        """Return what is told of the time, float [R]: a thousand times the steps left.

        In training it is a million times the share that is masked, as released.
        """
        if packed.level is not None:
            return 1000.0 * (1000.0 * packed.level[:, 0].float())
        left = []
        for row in packed.rows:
            lead = row.lead or row
            assert isinstance(lead.order, ConfidenceOrder)
            left.append(1000.0 * lead.order.config.left(lead.step))
        return torch.tensor(left, device=packed.device)

    def rotation(self, size: tuple[int, int], text: int, device: torch.device) -> Tensor:
        """Return the rotations of so many words, which stand still, and of a grid's places."""
        wide = torch.promote_types(self.output.weight.dtype, torch.float32)
        return _rotation(size, text, self.config.axes, self.config.rotary_base, device, wide)

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean cross-entropy of randomly masked codes, given the others."""
        self._check(tokens.layout)
        count, total = tokens.known.shape
        uniform = (torch.arange(count) + 0.5) / count
        if rng is not None:
            uniform = torch.rand(count, generator=rng, device=rng.device)
            dropped = self.condition.drop(condition, self.config.condition_dropout, rng)
            condition = {**condition, **dropped}
        rng = rng or torch.Generator().manual_seed(0)
        share = cosine_share(uniform, self.config.least_masked)
        places = torch.rand(count, total, generator=rng, device=rng.device)
        masked = self.masked(places, share).to(tokens.known.device)
        assert tokens.ids is not None
        outputs = self(self.taught(tokens, condition, masked, share), NoMemory())
        return self.head.loss(outputs, tokens.ids, None, masked)

    def masked(self, places: Tensor, share: Tensor) -> Tensor:
        """Return which codes are masked, bool [B, N]: at least one of every picture.

        Args:
            places: random numbers, float [B, N]; their ranks say what is masked first.
            share: float [B].
        """
        counts = (places.shape[1] * share).round().clamp(min=1)
        return masked_front(places, counts.unsqueeze(1))

    def taught(self, tokens: Tokens, condition: Condition, masked: Tensor, share: Tensor) -> Packed:
        """Return the pass over tokens [B, N] of which some are masked, and in which all speak.

        Args:
            masked: bool [B, N].
            share: that is masked of each, float [B].
        """
        told = {"numbers": self.numbers(tokens.layout, len(tokens)), **condition}
        slots = batch([_slots(len(tokens.layout), torch.arange(masked.shape[1]))] * len(tokens))
        level = share.to(masked.device).unsqueeze(1).expand(masked.shape)
        seen = Tokens(tokens.layout, tokens.ids, None, ~masked)
        return Packed(seen, slots, [told], level=level)


def _slots(count: int, draw: Tensor) -> Slots:
    """All places at every step; nothing is kept, as every pass reads everything."""
    speaks = torch.stack([draw, torch.zeros_like(draw), draw], dim=1)
    place = torch.arange(count)
    return Slots.of(place, torch.zeros_like(place), speaks, commit=False)


@lru_cache(maxsize=64)
def _rotation(
    size: tuple[int, int],
    text: int,
    axes: tuple[int, ...],
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    places = functional.pad(grid(*size).coordinates()[:, 1:], (0, 0, text, 0))
    return axes_rotation(places, axes, base, dtype).to(device)


def _register_variants() -> None:
    MODELS.variant("meissonic", "meissonic", MeissonicConfig(), 1_006_946_304)
    without = MeissonicConfig(compresses=False, steps=48)
    MODELS.variant("meissonic-512", "meissonic", without, 998_555_648)


_register_variants()
