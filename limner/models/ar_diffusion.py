"""AR-Diffusion: frames of a clip at noise levels of their own, denoised in a staircase.

Sun et al., "AR-Diffusion: Asynchronous Video Generation with Auto-Regressive Diffusion",
arXiv:2503.07418; facts from src/ardiff/{base.py,modules/} of iva-mzsun/AR-Diffusion.

A transformer reads all frames of a window, each modulated by its own time, and tells their clean
tokens. A frame sees itself and the frames before it. The learned context in front, which no time
modulates, sees everything, so that from the second block on later frames leak into earlier ones:
the published weights were trained so, and `open_context` says it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import torch
from torch import Tensor, nn

from limner.conditions.contexts import ContextCondition
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, batch, up_to
from limner.core.tokens import Tokens
from limner.heads.frame_denoising import FrameDenoisingHead
from limner.layers.grouped_adaln import Groups, ReplacingBlock, group_levels
from limner.layers.rotary import axis_angles
from limner.layers.sine_places import line_places
from limner.layers.timestep import TimestepEmbedding
from limner.layers.vision_transformer import StackConfig
from limner.orders.non_decreasing import random_times
from limner.orders.staircase import CHAIN, StaircaseOrder, Stairs, window_slots

EPS = 1e-6
BASE = 10000.0
EVALUATION_SEED = 0


@dataclass(frozen=True)
class ARDiffusionConfig:
    """Configuration of AR-Diffusion.

    Args:
        stack: blocks of the network.
        frames: F, of the window that is read at once, and of clips in training.
        frame_tokens: L, tokens of a frame.
        token_width: D of a token.
        classes: number of classes; class 0 is the null class too. 0: clips are not asked for by
            class, and the null context is 0.
        context: vectors in front of the clip.
        context_width: of such a vector.
        rotary: positions are turned instead of added.
        head_norm: queries and keys are normalised in each head.
        open_context: the context sees the clip.
        steps: of each frame.
        lag: steps by which a frame starts after the one before it.
        finish: refuse lags at which the window leaves frames that are not clean yet (the released
            sampler does not).
        betas: of the chain, first and last.
        condition_dropout: share of classes replaced by the null class in training.
    """

    stack: StackConfig = field(default_factory=lambda: StackConfig(1152, 28, 16))
    frames: int = 16
    frame_tokens: int = 32
    token_width: int = 4
    classes: int = 0
    context: int = 77
    context_width: int = 768
    rotary: bool = False
    head_norm: bool = False
    open_context: bool = True
    steps: int = 50
    lag: int = 5
    finish: bool = True
    betas: tuple[float, float] = (1e-4, 0.02)
    condition_dropout: float = 0.0

    def __post_init__(self) -> None:
        for name in ("frames", "frame_tokens", "token_width", "context", "context_width"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        check(self.classes >= 0, "classes", self.classes, "0 or more")
        fits = 0 < self.betas[0] < self.betas[1] < 1
        check(fits, "betas", self.betas, "two rising numbers between 0 and 1")
        share = self.condition_dropout
        check(0 <= share < 1, "condition_dropout", share, "at least 0 and below 1")
        Stairs(self.frames, self.frames, self.steps, self.lag)


@MODELS.family("ar-diffusion", ARDiffusionConfig)
class ARDiffusion(Generator):
    """The transformer over a window of frames, which is its own denoiser.

    Args:
        config: see `ARDiffusionConfig`.
    """

    config: ARDiffusionConfig
    condition: ContextCondition
    head: FrameDenoisingHead

    def __init__(self, config: ARDiffusionConfig) -> None:
        super().__init__()
        self.config = config
        stack = config.stack
        self.condition = ContextCondition(config.classes, config.context, config.context_width)
        self.context = nn.Linear(config.context_width, stack.width)
        self.time = TimestepEmbedding(stack.width)
        self.into = nn.Linear(config.token_width, stack.width)
        self.blocks = nn.ModuleList(
            ReplacingBlock(stack.width, stack.heads, stack.ratio, config.head_norm, EPS)
            for _ in range(stack.depth)
        )
        self.norm = nn.LayerNorm(stack.width, EPS, elementwise_affine=False)
        self.output = nn.Linear(stack.width, config.token_width)
        self.head = FrameDenoisingHead(CHAIN, config.betas)
        self._initialise()

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
                if "modulation" in name or module is self.output:
                    nn.init.zeros_(module.weight)
        self.time.initialise()

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows of one clip; what is not given begins as noise."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        assert tokens.values is not None
        every = torch.arange(len(tokens.layout))
        white = noise.normal("start", every, 0, (self.config.token_width,)).unsqueeze(0)
        white = (options.temperature * white).to(tokens.values)
        values = torch.where(tokens.known.unsqueeze(-1), tokens.values, white)
        return super().begin(
            Tokens(tokens.layout, None, values, tokens.known), condition, options, noise
        )

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """The frames of a window at every step; `steps` are those of each frame."""
        config, layout = self.config, tokens.layout
        self.check_layout(layout)
        frames, steps = layout.extent[0], options.steps or config.steps
        known = tokens.known[0].cpu().unflatten(0, (frames, -1))
        given = int(known.all(1).long().cumprod(0).sum())
        fits = not bool(known[given:].any())
        check(fits, "given", "other tokens", "whole frames from the first one on")
        stairs = Stairs(frames, config.frames, steps, min(config.lag, steps), given)
        least = -(-steps // config.frames)
        accepted = f"{least} or more: frames must be clean before the window leaves them"
        check(stairs.finishes or not config.finish, "lag", stairs.lag, accepted)
        return StaircaseOrder(layout, stairs)

    def slots(self, row: Row, step: Step) -> Slots:
        """The context and the frames of the window, which speak for themselves."""
        return window_slots(
            self.config.context, self.config.frame_tokens, step.first, len(step.draw)
        )

    def inputs(self, packed: Packed) -> Tensor:
        """The context, and the drafts with their places in the window, float [R, L, width]."""
        weight, count = self.into.weight, self.config.context
        x: Tensor = self.into(packed.values().to(weight.dtype))
        if not self.config.rotary:
            length = self.config.frames * self.config.frame_tokens
            table = _places(length, weight.shape[0], weight.device, weight.dtype)
            x = x + table[self._position(packed).clamp(min=0)]
        context = self.context(self.condition.vectors(packed.condition).to(weight.dtype))
        return torch.where((packed.place < 0).unsqueeze(-1), _on(context, packed, count), x)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the clean contents of the drafts, float [R, M, D]."""
        config = self.config
        group = (packed.slots.since + 1).where(packed.slots.copy == 1, 0)
        levels = group_levels(group, packed.levels())
        groups = Groups(self.time(levels), group.to(packed.device))
        rotation = self._rotation(packed) if config.rotary else None
        visible = _open_context if config.open_context else up_to
        reading = memory.read(packed.rows, packed.slots, visible)
        x = self.inputs(packed)
        for block in self.blocks:
            x = block(x, reading, groups, rotation)
        reading.close()
        told: Tensor = self.output(self.norm(packed.speaking(x)))
        return told

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the squared error of clean tokens, at non-decreasing times of the frames."""
        self.check_layout(tokens.layout)
        frames = tokens.layout.extent[0]
        check(frames == self.config.frames, "frames", frames, f"{self.config.frames} in training")
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        assert tokens.values is not None
        values = tokens.values
        time = random_times(len(tokens), frames, CHAIN, rng)
        time = time.repeat_interleave(self.config.frame_tokens, 1)
        noise = torch.randn(values.shape, generator=rng, device=rng.device).to(values)
        noisy = self.head.tables.add_noise(values, time, noise)
        return self.head.loss(self.teach(tokens, condition, noisy, time), values)

    def teach(self, tokens: Tokens, condition: Condition, noisy: Tensor, time: Tensor) -> Tensor:
        """Return the clean contents of noisy tokens, float [B, N, D].

        Args:
            tokens: of clips as long as the window.
            noisy: float [B, N, D].
            time: int64 [B, N], steps of the chain, alike within a frame.
        """
        slots = window_slots(self.config.context, self.config.frame_tokens, 0, len(tokens.layout))
        level = time.to(tokens.known.device, torch.float32)
        rows = batch([slots] * len(tokens))
        told: Tensor = self(Packed(tokens, rows, [condition], noisy=noisy, level=level), NoMemory())
        return told

    def _position(self, packed: Packed) -> Tensor:
        """Return every slot's place in the window, int64 [R, L]; negative on the context."""
        since = packed.slots.since.to(packed.device).clamp(min=0)
        within = since * self.config.frame_tokens + packed.place % self.config.frame_tokens
        return torch.where(packed.place < 0, packed.place, within)

    def _rotation(self, packed: Packed) -> Tensor:
        """Return rotations by the place in the whole sequence, float [R, 1, L, d / 2, 2]."""
        stack = self.config.stack
        place = self._position(packed) + self.config.context
        angle = axis_angles(place, stack.width // stack.heads, BASE)
        wide = torch.promote_types(self.output.weight.dtype, torch.float32)
        return torch.stack([angle.cos(), angle.sin()], dim=-1).unsqueeze(1).to(wide)

    def check_layout(self, layout: Layout) -> None:
        """Raise ConfigError for clips shorter than the window, or of other frames."""
        config, frames = self.config, layout.extent[0]
        count = len(layout) // frames
        check(count == config.frame_tokens, "frame_tokens", count, f"{config.frame_tokens} a frame")
        accepted = f"{config.frames} or more, the frames of the window"
        check(frames >= config.frames, "frames", frames, accepted)


def _open_context(queries: Slots, keys: Slots) -> Tensor:
    """A frame sees the context and the frames up to itself; the context sees everything."""
    return up_to(queries, keys) | (queries.place < 0).unsqueeze(-1)


@lru_cache(maxsize=16)
def _places(count: int, width: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    return line_places(count, width).to(device, dtype)


def _on(context: Tensor, packed: Packed, count: int) -> Tensor:
    """Return each slot's vector of the context [R, count, width]; arbitrary on other slots."""
    index = (packed.place + count).clamp(0, count - 1).unsqueeze(-1)
    return context.gather(1, index.expand(-1, -1, context.shape[-1]))


def _register_variants() -> None:
    # the trained tensors of the official code, and the context, which is saved beside them
    MODELS.variant("ar-diffusion", "ar-diffusion", ARDiffusionConfig(), 671_864_836 + 77 * 768)
    ucf = ARDiffusionConfig(classes=101, condition_dropout=0.58)
    MODELS.variant("ar-diffusion-ucf101", "ar-diffusion", ucf, 671_864_836 + 102 * 77 * 768)


_register_variants()
