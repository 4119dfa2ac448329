"""xAR: next-X prediction over continuous tokens, each X drawn by a flow of the whole network.

Ren et al., "Beyond Next-Token: Next-X Prediction for Autoregressive Visual Generation",
arXiv:2502.20388; facts from models/{xar,rope,sampler}.py of OliverRensu/xAR.

X is a cell of neighbouring latents, or another group of them (`limner.orders.blocks`). The
transformer itself is the velocity network: it reads the X that is drawn as it stands on its way
from noise, and all earlier ones, and is evaluated once a step of the solver. In training every X
has a noise level of its own, and those that are read are noisy too (noisy context learning); in
sampling what is drawn is read clean, once, and remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition
from limner.core.errors import check
from limner.core.generator import Generator, Packed
from limner.core.head import LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Partition, Step
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import ABSENT, Slots, batch, up_to
from limner.core.tokens import Tokens
from limner.heads.flow import EVALUATION_SEED, FlowConfig, FlowHead
from limner.layers.adaln import rotary_block
from limner.layers.grouped_adaln import GroupModulation, Groups, group_levels
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.norms import RMSNorm
from limner.layers.rotary import grid_rotation
from limner.layers.timestep import TimestepEmbedding
from limner.layers.vision_transformer import StackConfig
from limner.orders.blocks import NextX, draft_slots, noisy_slots

EPS = 1e-6


@dataclass(frozen=True)
class XARConfig:
    """Configuration of xAR.

    Args:
        encoder: blocks of the first stack; its gated MLPs are two thirds of `ratio` width wide.
        decoder: blocks of the second stack, of the same width.
        x: what is drawn at a step.
        flow: how it is drawn.
        tokens: N, length of the sequence; places are learned, so it is fixed.
        token_width: D of a token.
        classes: number of classes, the null class not counted.
        base: of the rotary frequencies.
        attention_dropout: on attention weights, in training.
        dropout: on the blocks' branches and in the MLPs, in training.
        condition_dropout: share of classes replaced by the null class in training.
    """

    encoder: StackConfig = field(default_factory=lambda: StackConfig(768, 8, 12))
    decoder: StackConfig = field(default_factory=lambda: StackConfig(768, 8, 12))
    x: NextX = field(default_factory=NextX)
    flow: FlowConfig = field(
        default_factory=lambda: FlowConfig(40, solver="euler-maruyama", times="late")
    )
    tokens: int = 256
    token_width: int = 16
    classes: int = 1000
    base: float = 10000.0
    attention_dropout: float = 0.1
    dropout: float = 0.1
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("tokens", "token_width", "classes", "base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("encoder", "decoder"):
            stack: StackConfig = getattr(self, name)
            fits = stack.width % (4 * stack.heads) == 0
            accepted = f"a multiple of 4 heads ({4 * stack.heads})"
            check(fits, f"{name}.width", stack.width, accepted)
        width = self.decoder.width
        check(width == self.encoder.width, "decoder.width", width, "that of the encoder")
        for name in ("attention_dropout", "dropout", "condition_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")


@MODELS.family("xar", XARConfig)
class XAR(Generator):
    """The transformer over noisy groups of tokens, which tells their velocities.

    Args:
        config: see `XARConfig`.
    """

    config: XARConfig
    condition: ClassCondition
    head: FlowHead
    guidance = "ramp"

    def __init__(self, config: XARConfig) -> None:
        super().__init__()
        self.config = config
        width = config.encoder.width
        self.condition = ClassCondition(config.classes, width)
        self.time = TimestepEmbedding(width)
        self.into = nn.Linear(config.token_width, width)
        self.encoder_places = nn.Parameter(torch.empty(config.tokens, width))
        self.into_norm = RMSNorm(width, EPS)
        self.encoder = self._stack(config.encoder, first=0)
        self.encoder_norm = RMSNorm(width, EPS)
        self.between = nn.Linear(width, width)
        self.decoder_places = nn.Parameter(torch.empty(config.tokens, width))
        self.decoder = self._stack(config.decoder, first=config.encoder.depth)
        self.decoder_norm = RMSNorm(width, EPS)
        self.output = nn.Linear(width, config.token_width)
        self.head = FlowHead(config.token_width, None, config.flow)
        self._initialise()

    def _stack(self, stack: StackConfig, first: int) -> nn.ModuleList:
        dropouts, width = (self.config.attention_dropout, self.config.dropout), stack.width
        return nn.ModuleList(
            rotary_block(
                width, stack.heads, layer, stack.ratio, *dropouts, EPS, GroupModulation(width)
            )
            for layer in range(first, first + stack.depth)
        )

    def _initialise(self) -> None:
        # nothing begins at zero: as released
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        for table in (self.condition.table.weight, self.encoder_places, self.decoder_places):
            nn.init.normal_(table, std=0.02)

    @property
    def blocks(self) -> list[nn.Module]:
        """What is worth compiling."""
        return [*self.encoder, *self.decoder]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One X a step."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        return self._order(tokens.layout)

    def _order(self, layout: Layout) -> Partition:
        fits = len(layout) == self.config.tokens
        accepted = f"{self.config.tokens}, as this model's places are learned"
        check(fits, "tokens", len(layout), accepted)
        return self.config.x.order(layout)

    def slots(self, row: Row, step: Step) -> Slots:
        """The X drawn before, now clean, which is remembered; and the noisy one that is drawn."""
        return draft_slots(self._order(row.tokens.layout), step.index)

    def inputs(self, packed: Packed) -> Tensor:
        """Contents, clean or noisy, and their places: [R, L, width]."""
        contents = self.into(packed.values().to(self.into.weight.dtype))
        return contents + self.encoder_places[packed.place]

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return velocities, float [R, M, D]."""
        groups = self.groups(packed)
        reading = memory.read(packed.rows, packed.slots, up_to)
        x = self.into_norm(self.inputs(packed))
        rotation = self.rotation(packed, self.config.encoder)
        for block in self.encoder:
            x = block(x, reading, groups, rotation)
        x = self.between(self.encoder_norm(x)) + self.decoder_places[packed.place]
        rotation = self.rotation(packed, self.config.decoder)
        for block in self.decoder:
            x = block(x, reading, groups, rotation)
        reading.close()
        velocities: Tensor = self.output(self.decoder_norm(packed.speaking(x)))
        return velocities

    def groups(self, packed: Packed) -> Groups:
        """Return what modulates the slots: class and time, one vector for every X."""
        since = packed.slots.since
        absent = since == ABSENT
        first = since.masked_fill(absent, since.max()).amin(1, keepdim=True)
        group = (since - first + 1).masked_fill(absent, 0)
        time = self.time(group_levels(group, packed.levels()))
        return Groups(time + self.condition.prefix(packed.condition), group)

    def rotation(self, packed: Packed, stack: StackConfig) -> Tensor:
        """Return each slot's rotation in a stack, float [R, 1, L, d / 2, 2]."""
        wide = torch.promote_types(self.output.weight.dtype, torch.float32)
        size = (stack.width // stack.heads, self.config.base)
        table = grid_rotation(packed.tokens.layout, *size, packed.device, wide)
        return table[packed.place + 1].unsqueeze(1)

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the mean squared error of the velocities at random times, one for every X.

        Beside it, "still" is the error of a velocity of 0.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        assert tokens.values is not None
        steps = len(self._order(tokens.layout))
        time = torch.randn(len(tokens), steps, generator=rng, device=rng.device).sigmoid()
        noise = torch.randn(tokens.values.shape, generator=rng, device=rng.device)
        noise = noise.to(tokens.values)
        target = noise - tokens.values
        velocity = self.teach(tokens, condition, time.to(target.device), noise)
        error = (velocity - target).square().mean()
        parts = {"mse": error.detach(), "still": target.square().mean()}
        return LossBreakdown(error, parts)

    def teach(self, tokens: Tokens, condition: Condition, time: Tensor, noise: Tensor) -> Tensor:
        """Return the velocities of all tokens, each X given itself and earlier ones, all noisy.

        Args:
            tokens: known ones [B, N].
            time: float32 [B, K], flow time of every X.
            noise: float [B, N, D].

        Returns:
            float [B, N, D].
        """
        noisy, level = self.noised(tokens, time, noise)
        slots = batch([noisy_slots(self._order(tokens.layout))] * len(tokens))
        packed = Packed(tokens, slots, [condition], noisy=noisy, level=level)
        velocities: Tensor = self(packed, NoMemory())
        return velocities

    def noised(self, tokens: Tokens, time: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Return noisy contents [B, N, D] and what the network is told of their times, [B, N]."""
        assert tokens.values is not None
        each = time[:, self._order(tokens.layout).step.to(time.device)]
        noisy = torch.lerp(tokens.values, noise, each.to(noise).unsqueeze(-1))
        return noisy, self.head.told(each, (0.0, self.config.flow.clock))

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers, with room for the X that is drawn beside all before it."""
        config, weight = self.config, self.into.weight
        layers = [config.encoder] * config.encoder.depth + [config.decoder] * config.decoder.depth
        heads = [stack.heads for stack in layers]
        widths = [stack.width // stack.heads for stack in layers]
        size = (len(layers), heads, widths, config.tokens)
        return KeyValueMemory(*size, weight.device, weight.dtype)


def _register_variants() -> None:
    sizes = {  # width, depth and heads of both stacks; solver steps; count
        "b": (768, 8, 12, 40, "172.6M"),
        "l": (1024, 16, 16, 50, "608.4M"),
        "h": (1280, 20, 16, 50, "1186.0M"),
    }
    for name, (width, depth, heads, steps, published) in sizes.items():
        stack = StackConfig(width, depth, heads)
        flow = FlowConfig(steps, solver="euler-maruyama", times="late")
        MODELS.variant(f"xar-{name}", "xar", XARConfig(stack, stack, flow=flow), published)


_register_variants()
