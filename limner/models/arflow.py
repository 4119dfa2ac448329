"""ARFlow: a flow model whose attention carries a state from one solver step to the next.

Hui et al., "ARFlow: Autoregressive Flow with Hybrid Linear Attention", arXiv:2501.16085; facts from
models.py, models_infer.py, transport/ and train.py of TheFllood/ARFlow.

In training a row is a few pictures of one class, each noisier than the next; every picture sees
itself in both directions and the ones before it through a state of constant size. In sampling the
pictures of a row are the same one at successive solver steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Literal

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
from limner.core.slots import Slots, batch, everything
from limner.core.tokens import Tokens
from limner.heads.flow_steps import FlowStepHead
from limner.heads.solvers import late_times
from limner.layers.adaln import AdaLNBlock, AdaLNOutput, Modulation
from limner.layers.hybrid_attention import HybridAttention
from limner.layers.mlp import MLP
from limner.layers.sine_places import plane_places
from limner.layers.state_memory import StateMemory
from limner.layers.timestep import TimestepEmbedding
from limner.layers.vision_transformer import StackConfig
from limner.orders.noise_levels import NoiseLevels

EVALUATION_SEED = 0


@dataclass(frozen=True)
class ARFlowConfig:
    """Configuration of ARFlow.

    Args:
        stack: the blocks.
        token_width: D of a token, a patch of latents: channels, then rows and columns.
        channels: of the latents; they divide `token_width`.
        ballast: the output layer has as many rows again that nothing reads, as released.
        classes: number of classes, the null class not counted.
        sequence: S, pictures of one class in a row in training.
        normaliser: of the gates, see `HybridAttention`.
        norm_eps: of the norms inside of the attention.
        steps: solver steps when a caller does not say.
        last: flow time at which the last step begins.
        solver: see `FlowStepHead`.
        guided_channels: so many first channels are guided (three of four, as released); None: all.
        condition_dropout: share of rows whose class is replaced by the null class in training.
    """

    stack: StackConfig = field(default_factory=StackConfig)
    token_width: int = 16
    channels: int = 4
    ballast: bool = False
    classes: int = 1000
    sequence: int = 5
    normaliser: float = 16.0
    norm_eps: float = 1e-6
    steps: int = 250
    last: float = 0.04
    solver: Literal["euler", "euler-maruyama"] = "euler-maruyama"
    guided_channels: int | None = None
    condition_dropout: float = 0.1

    def __post_init__(self) -> None:
        positive = ("token_width", "channels", "classes", "sequence", "normaliser", "norm_eps")
        for name in positive:
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        check(self.steps > 1, "steps", self.steps, "2 or more")
        check(self.stack.width % 4 == 0, "stack.width", self.stack.width, "a multiple of 4")
        check(0 < self.last < 1, "last", self.last, "above 0 and below 1")
        fits = self.token_width % self.channels == 0
        check(fits, "channels", self.channels, f"a divisor of token_width ({self.token_width})")
        guided = self.guided_channels
        fits = guided is None or 0 <= guided <= self.channels
        check(fits, "guided_channels", guided, f"from 0 to channels ({self.channels})")
        share = self.condition_dropout
        check(0 <= share <= 1, "condition_dropout", share, "from 0 to 1")

    @property
    def guided_width(self) -> int:
        """How many first numbers of a token are guided."""
        guided = self.channels if self.guided_channels is None else self.guided_channels
        return guided * self.token_width // self.channels


@MODELS.family("arflow", ARFlowConfig)
class ARFlow(Generator):
    """The transformer that tells the velocity of a noisy picture, given noisier ones.

    Args:
        config: see `ARFlowConfig`.
    """

    config: ARFlowConfig
    condition: ClassCondition
    head: FlowStepHead

    def __init__(self, config: ARFlowConfig) -> None:
        super().__init__()
        self.config = config
        width = config.stack.width
        self.condition = ClassCondition(config.classes, width)
        self.time = TimestepEmbedding(width)
        self.into = nn.Linear(config.token_width, width)
        self.blocks = nn.ModuleList(self._block(layer) for layer in range(config.stack.depth))
        self.norm = AdaLNOutput(width)
        self.output = nn.Linear(width, config.token_width * (2 if config.ballast else 1))
        self.head = FlowStepHead(config.token_width, config.solver, config.guided_width)
        self._initialise()

    def _block(self, layer: int) -> AdaLNBlock:
        stack = self.config.stack
        attention = HybridAttention(
            stack.width, stack.heads, layer, self.config.normaliser, self.config.norm_eps
        )
        mlp = MLP(stack.width, int(stack.ratio * stack.width), "gelu-tanh")
        modulation = Modulation(stack.width)
        return AdaLNBlock(stack.width, attention, mlp, modulation)  # type: ignore[arg-type]

    def _initialise(self) -> None:
        for name, module in self.named_modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
                if "modulation" in name or module is self.output:
                    nn.init.zeros_(module.weight)
        self.time.initialise()
        nn.init.normal_(self.condition.table.weight, std=0.02)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """All tokens at every step, from noise to data."""
        check(tokens.values is not None, "tokens", "codes", "continuous vectors")
        check(len(tokens.layout.segments) == 1, "tokens", "a pyramid", "one grid")
        steps = options.steps or self.config.steps
        check(steps > 1, "steps", steps, "2 or more")
        every = torch.arange(len(tokens.layout))
        return NoiseLevels(every, late_times(steps, self.config.last))

    def slots(self, row: Row, step: Step) -> Slots:
        """All tokens as drafts, each of which speaks for itself; the state keeps them."""
        return _slots(len(row.tokens.layout), 1, step.index)

    def inputs(self, packed: Packed) -> Tensor:
        """The contents of all places, float [R, L, width]."""
        rows, columns = packed.tokens.layout.extent[1:]
        into: Tensor = self.into(packed.values().to(self.into.weight.dtype))
        places = _places(rows, columns, into.shape[-1], into.device, into.dtype)
        return into + places[packed.place % (rows * columns)]

    def vectors(self, packed: Packed) -> Tensor:
        """Return what modulates each picture: time and class, float [R, S, 1, width].

        The network is told 1 - t of flow time t, which is 1 for noise here and 0 there.
        """
        level = packed.levels().unflatten(1, (-1, self._area(packed)))[..., :1]
        return self.time(1 - level) + self.condition.prefix(packed.condition).unsqueeze(1)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the velocity of every draft from data to noise, float [R, M, D]."""
        vector = self.vectors(packed)
        x = self.inputs(packed).unflatten(1, (-1, self._area(packed)))
        reading = memory.read(packed.rows, packed.slots, everything)
        for block in self.blocks:
            x = block(x, reading, vector, vector)
        reading.close()
        told = self.output(self.norm(x, vector)).flatten(1, 2)
        return packed.speaking(-told[..., : self.config.token_width])

    def _area(self, packed: Packed) -> int:
        """Return N, how many tokens a picture has."""
        rows, columns = packed.tokens.layout.extent[1:]
        return rows * columns

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the squared error of velocities in rows of pictures of one class.

        There is a row for every S pictures of the batch; its pictures are drawn among those of the
        same class, without repetition where there are enough.
        """
        teaching, device = rng is not None, tokens.known.device
        rng = rng or torch.Generator().manual_seed(EVALUATION_SEED)
        chosen = companions(condition["label"], self.config.sequence, rng).to(device)
        given = {"label": condition["label"][chosen[:, 0]]}
        if teaching:
            given = self.condition.drop(given, self.config.condition_dropout, rng)
        assert tokens.values is not None
        values = tokens.values[chosen]  # [Q, S, N, D]
        time = torch.rand(chosen.shape, generator=rng, device=rng.device).sort(1, True).values
        noise = torch.randn(values.shape, generator=rng, device=rng.device).to(values)
        outputs = self.teach(tokens.layout, values, given, time.to(values), noise)
        return self.head.loss(outputs, (noise - values).flatten(1, 2))

    def teach(
        self, layout: Layout, values: Tensor, condition: Condition, time: Tensor, noise: Tensor
    ) -> Tensor:
        """Return the velocities of all pictures in one pass, float [Q, S N, D].

        Args:
            layout: of a picture.
            values: clean, float [Q, S, N, D].
            condition: of every row.
            time: flow times, float [Q, S], falling.
            noise: float [Q, S, N, D].
        """
        rows, pictures, count, _ = values.shape
        level = time.to(values)[..., None, None]
        noisy = torch.lerp(values, noise, level).flatten(1, 2)
        row_of_pictures = Layout(layout.segments * pictures, layout.extent)
        known = torch.ones(noisy.shape[:2], dtype=torch.bool, device=values.device)
        tokens = Tokens(row_of_pictures, None, values.flatten(1, 2), known)
        slots = batch([_slots(count, pictures)] * rows)
        levels = time.repeat_interleave(count, dim=1)
        packed = Packed(tokens, slots, [condition], noisy=noisy, level=levels)
        told: Tensor = self(packed, NoMemory())
        return told

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return states of all blocks, whose size no step changes."""
        return StateMemory(self.config.stack.depth)


def companions(labels: Tensor, length: int, rng: torch.Generator) -> Tensor:
    """Return rows of pictures of one class each, int64 [max(1, B / length), length].

    Args:
        labels: int64 [B].
        length: pictures of a row; those of a class with fewer are repeated.
    """
    labels = labels.cpu()
    order = torch.randperm(len(labels), generator=rng, device=rng.device).cpu()
    rows = []
    for first in order[: max(1, len(labels) // length)].tolist():
        others = torch.randperm(len(labels), generator=rng, device=rng.device).cpu()
        same = others[(labels[others] == labels[first]) & (others != first)]
        row = torch.cat([torch.tensor([first]), same])
        rows.append(row.repeat(-(-length // len(row)))[:length])
    return torch.stack(rows)


@lru_cache(maxsize=1024)
def _slots(count: int, pictures: int, first: int = 0) -> Slots:
    """Drafts of successive pictures of so many tokens, each of which speaks for itself."""
    place = torch.arange(count * pictures)
    speaks = torch.stack([place, torch.zeros_like(place), place], dim=1)
    return Slots.of(place, first + place // count, speaks, copy=1)


@lru_cache(maxsize=64)
def _places(
    rows: int, columns: int, width: int, device: torch.device, dtype: torch.dtype
) -> Tensor:
    # in float32 first, as the released weights hold them
    return plane_places(rows, columns, width).float().to(device, dtype)


def _register_variants() -> None:
    # published counts include the fixed places of 128 px, which are no weights here
    sizes = {  # width, depth, heads
        "s": (384, 12, 6),
        "b": (768, 12, 12),
        "l": (1024, 24, 16),
        "xl": (1152, 28, 18),
    }
    for name, (width, depth, heads) in sizes.items():
        config = ARFlowConfig(StackConfig(width, depth, heads), ballast=True, guided_channels=3)
        MODELS.variant(f"arflow-{name}-2", "arflow", config)


_register_variants()
