"""E-CAR: one flow from noise to a picture, its stages drawn at growing size, each by one pass.

Yuan et al., "E-CAR: Efficient Continuous Autoregressive Image Generation via Multistage Modeling",
arXiv:2412.14170. No code is published. From the paper: continuous token maps of growing resolution,
all tokens of a map in parallel, and a flow that each stage carries only part of the way. Chosen
here, and fields of the configuration: FlowAR's blocks and velocity network, Pyramid-Flow's stages
(arXiv:2410.05954), sizes and steps.

What a stage reads is the result of the stage before, enlarged: it still holds noise, in training as
in sampling. Only the last stage ends clean.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor, nn

from limner.conditions import ClassCondition
from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.head import LossBreakdown
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order
from limner.core.registry import MODELS
from limner.core.row import Condition, Options, Row
from limner.core.slots import batch, up_to
from limner.core.tokens import Tokens
from limner.heads.flow import EVALUATION_SEED, FlowConfig, FlowHead, by_area, random_times
from limner.heads.multistage import (
    MultistageConfig,
    MultistagePath,
    StageSteps,
    ends,
    noise_along,
    parents,
    ratios,
    stages,
)
from limner.layers.adaln import rotary_block
from limner.layers.flow_transformer import FlowTransformer, FlowTransformerConfig, TokenPlaces
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.norms import RMSNorm
from limner.layers.rotary import spanning_rotation
from limner.layers.vision_transformer import StackConfig
from limner.models.next_scale import NextScale, Scaled
from limner.orders import teacher_slots

EPS = 1e-6


@dataclass(frozen=True)
class ECARConfig(Scaled):
    """Configuration of E-CAR; all of it is a choice, as nothing is published.

    Args:
        stack: blocks that read the stages so far.
        velocity: the network that moves a stage, one for all of them.
        multistage: where stages begin and end, and their steps.
        solver: of the flow, see `FlowConfig`.
        guided: scale of guidance at all stages alike, or rising over them.
        token_width: D of a token.
        classes: number of classes, the null class not counted.
        scales: sides of the stages, each twice the one before. Places are learned: they are fixed.
        span: what the side of a stage measures in rotary positions.
        base: of the rotary frequencies.
        attention_dropout: on attention weights, in training.
        dropout: on the blocks' branches and in the MLPs, in training.
        condition_dropout: share of classes replaced by the null class in training.
    """

    stack: StackConfig = field(default_factory=StackConfig)
    velocity: FlowTransformerConfig = field(default_factory=lambda: FlowTransformerConfig(768, 6))
    multistage: MultistageConfig = field(default_factory=MultistageConfig)
    solver: Literal["euler", "heun", "midpoint"] = "midpoint"
    guided: Literal["constant", "ramp"] = "constant"
    token_width: int = 16
    classes: int = 1000
    scales: tuple[int | tuple[int, int], ...] = (4, 8, 16)
    span: float = 16.0
    base: float = 10000.0
    attention_dropout: float = 0.1
    dropout: float = 0.1
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        for name in ("token_width", "classes", "span", "base"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        fits = self.stack.width % (4 * self.stack.heads) == 0
        check(fits, "stack.width", self.stack.width, f"a multiple of {4 * self.stack.heads}")
        count, sizes = len(self.multistage.steps), self.sizes
        doubles = all(
            (2 * rows, 2 * columns) == later for (rows, columns), later in pairwise(sizes)
        )
        accepted = f"{count} positive sizes (one a stage), each twice the one before"
        check(
            len(sizes) == count and min(sizes[0]) > 0 and doubles, "scales", self.scales, accepted
        )
        for name in ("attention_dropout", "dropout", "condition_dropout"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")


@MODELS.family("e-car", ECARConfig)
class ECAR(NextScale):
    """The transformer over stages, with a flow head that carries on from stage to stage.

    Args:
        config: see `ECARConfig`.
    """

    config: ECARConfig
    condition: ClassCondition
    head: FlowHead

    def __init__(self, config: ECARConfig) -> None:
        super().__init__()
        self.config = config
        self.guidance = config.guided
        stack = config.stack
        self.condition = ClassCondition(config.classes, stack.width)
        self.into = nn.Linear(config.token_width, stack.width)
        self.stages = nn.Embedding(len(config.sizes), stack.width)
        self.places = nn.Embedding(config.length, stack.width)
        dropouts = (config.attention_dropout, config.dropout)
        self.stack = nn.ModuleList(
            rotary_block(stack.width, stack.heads, layer, stack.ratio, *dropouts, EPS)
            for layer in range(stack.depth)
        )
        self.norm = RMSNorm(stack.width, EPS)
        flow = FlowConfig(solver=config.solver, clock=config.multistage.chain, whole_clock=False)
        network = FlowTransformer(config.token_width, stack.width, config.velocity)
        path = MultistagePath(config.multistage)
        self.head = FlowHead(config.token_width, network, flow, path)
        self.head.inner_steps = StageSteps(config.multistage.steps)
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
            elif isinstance(module, nn.Embedding):
                nn.init.normal_(module.weight, std=0.02)

    @property
    def blocks(self) -> list[nn.Module]:
        """What is worth compiling."""
        assert isinstance(self.head.network, FlowTransformer)
        return [*self.stack, *self.head.network.blocks]

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows of one picture; what is given is noised as far as its stage's end is."""
        if tokens.values is not None and bool(tokens.known.any()):
            every = torch.arange(len(tokens.layout))
            white = noise.normal("held", every, 0, (self.config.token_width,))
            white, multistage = white.unsqueeze(0).to(tokens.values), self.config.multistage
            along = noise_along(white, tokens.layout, multistage.gamma)
            _, end = ends(tokens.values, along, tokens.layout, multistage)
            tokens = Tokens(tokens.layout, None, end, tokens.known)
        return super().begin(tokens, condition, options, noise)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """One stage a step."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        return super().order(tokens, options, noise)

    def inputs(self, packed: Packed) -> Tensor:
        """The class on the first stage, the stage before elsewhere; plus stage and place."""
        values, place = packed.tokens.values, packed.place
        assert values is not None
        stage = packed.coordinates()[..., 0]
        parent = parents(packed.tokens.layout).to(packed.device)[place]
        before = values.gather(1, parent.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
        contents = self.into(before.to(self.into.weight.dtype))
        first = (stage == 0).unsqueeze(-1)
        contents = torch.where(first, self.condition.prefix(packed.condition), contents)
        return contents + self.stages(stage) + self.places(place)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return what the head draws tokens from, float [R, M, width]."""
        config, stack = self.config, self.config.stack
        vector = self.condition.prefix(packed.condition)
        position = (stack.width // stack.heads, config.span, config.base, vector.dtype)
        rotation = spanning_rotation(packed.tokens.layout, packed.place, *position)
        reading = memory.read(packed.rows, packed.slots, up_to)
        x = self.inputs(packed)
        for block in self.stack:
            x = block(x, reading, vector, rotation)
        reading.close()
        return packed.speaking(self.norm(x))

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the squared error of the velocities, a sum over stages by their area.

        The parts are means over the tokens of all stages: "mse", and "still", the error of a
        velocity of 0.
        """
        if rng is not None:
            condition = self.condition.drop(condition, self.config.condition_dropout, rng)
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        assert tokens.values is not None
        layout, multistage = tokens.layout, self.config.multistage
        places = TokenPlaces(layout, torch.arange(len(layout)).unsqueeze(0))
        uniform = random_times(tokens.values, rng, places)
        white = torch.randn(tokens.values.shape, generator=rng, device=rng.device)
        noise = noise_along(white.to(tokens.values), layout, multistage.gamma)
        start, end = ends(tokens.values, noise, layout, multistage)
        time = ratios(uniform, multistage.chain)
        last, first = torch.tensor([stage.told for stage in stages(multistage)]).unbind(-1)
        segment = layout.segment_of()
        told = self.head.told(time, (last[segment], first[segment]))
        outputs = self.teach(Tokens(layout, None, end, tokens.known), condition)
        errors = self.head.errors_between(outputs, (start, end), time, told, places)
        parts = {"mse": errors.detach().mean(), "still": (start - end).square().mean()}
        return LossBreakdown(by_area(errors, layout), parts)

    def teach(self, results: Tokens, condition: Condition) -> Tensor:
        """Return the outputs of all stages in one pass, float [B, N, width].

        Args:
            results: of all stages, noise included.
        """
        slots = batch([teacher_slots(results.layout)] * len(results))
        outputs: Tensor = self(Packed(results, slots, [condition]), NoMemory())
        return outputs

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return key/value buffers for all stages but the last, which nothing reads later."""
        stack, weight = self.config.stack, self.into.weight
        kept = sum(rows * columns for rows, columns in self.config.sizes[:-1])
        size = (stack.depth, stack.heads, stack.width // stack.heads, kept)
        return KeyValueMemory(*size, weight.device, weight.dtype)


def _register_variants() -> None:
    sizes = {  # width, depth, heads; width and depth of the velocity network
        "b": (768, 12, 12, 768, 6),
        "l": (1024, 16, 16, 1024, 12),
    }
    for name, (width, depth, heads, velocity, blocks) in sizes.items():
        stack = StackConfig(width, depth, heads)
        config = ECARConfig(stack, FlowTransformerConfig(velocity, blocks))
        MODELS.variant(f"ecar-{name}", "e-car", config)


_register_variants()
