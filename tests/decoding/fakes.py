"""Small generators of other paradigms, and a plain transformer to check them against.

All are float64, so that what is computed in another grouping agrees to the last few digits.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.generator import Generator, Packed
from limner.core.head import Drawn, Turn
from limner.core.layout import Layout, grid
from limner.core.memory import Memory, NoMemory, Reading
from limner.core.noise import Noise, SeededNoise
from limner.core.order import Order, Partition, Step
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots, Visible, everything, skip_causal, up_to
from limner.core.tokens import Tokens, empty
from limner.heads.categorical import CategoricalHead
from limner.layers.attention import SelfAttention
from limner.layers.key_value_memory import KeyValueMemory
from limner.layers.mlp import MLP
from limner.orders import raster

WIDTH, HEADS, LAYERS, CODES = 8, 2, 2, 7
CLASSES = 3


class Backbone(nn.Module):
    """A transformer without norms that remembers through a reading."""

    def __init__(self) -> None:
        super().__init__()
        self.attention = nn.ModuleList(SelfAttention(WIDTH, HEADS, k) for k in range(LAYERS))
        self.mlp = nn.ModuleList(MLP(WIDTH, 2 * WIDTH) for _ in range(LAYERS))

    def forward(self, x: Tensor, reading: Reading) -> Tensor:
        for attention, mlp in zip(self.attention, self.mlp, strict=True):
            x = x + attention(x, reading)
            x = x + mlp(x)
        return x


def plain(backbone: Backbone, x: Tensor, masks: Tensor | Sequence[Tensor]) -> Tensor:
    """Run a backbone on one whole sequence [L, D] without limner's attention.

    Args:
        masks: bool [L, L], True where the row sees the column; or one for each layer.
    """
    masks = [masks] * LAYERS if isinstance(masks, Tensor) else masks
    for attention, mlp, mask in zip(backbone.attention, backbone.mlp, masks, strict=True):
        query, key, value = attention.qkv(x).reshape(len(x), 3, HEADS, -1).unbind(1)
        scores = torch.einsum("qhd,khd->hqk", query, key) / math.sqrt(WIDTH // HEADS)
        weights = scores.masked_fill(~mask, -torch.inf)
        weights = (weights - weights.amax(-1, keepdim=True)).exp()
        weights = weights / weights.sum(-1, keepdim=True)
        x = x + attention.out(torch.einsum("hqk,khd->qhd", weights, value).flatten(1))
        x = x + mlp(x)
    return x


class Fake(Generator):
    """What the fakes share: a prefix of `prefix` conditions in front of embedded tokens."""

    visible: Visible = staticmethod(up_to)
    codes = 1
    width = 0

    def __init__(self, layout: Layout, prefix: int = 1, outputs: int = CODES) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layout = layout
        self.prefix = prefix
        self.backbone = Backbone()
        self.places = nn.Embedding(prefix + len(layout), WIDTH)
        self.classes = nn.Embedding(CLASSES + 1, WIDTH)
        self.content: nn.Module = nn.Embedding(CODES, WIDTH)
        self.output = nn.Linear(WIDTH, outputs)
        self.head = CategoricalHead()
        self.passes = 0
        self.double()
        for parameter in self.parameters():
            nn.init.normal_(parameter, std=0.3)

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        return raster(tokens.layout)

    def null(self, condition: Condition) -> Condition:
        return {"label": torch.full_like(condition["label"], CLASSES)}

    def inputs(self, packed: Packed) -> Tensor:
        first = (packed.place < 0).unsqueeze(-1)
        start = self.classes(packed.condition["label"]).unsqueeze(1)
        return torch.where(first, start, self.embedded(packed)) + self.places(
            packed.place + self.prefix
        )

    def embedded(self, packed: Packed) -> Tensor:
        return self.content(packed.ids()[..., 0])

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        self.passes += 1
        reading = memory.read(packed.rows, packed.slots, self.visible)
        hidden = self.backbone(self.inputs(packed), reading)
        reading.close()
        return self.output(packed.speaking(hidden))

    def memory(self, rows: Sequence[Row]) -> Memory:
        capacity = self.prefix + len(self.layout)
        return KeyValueMemory(
            LAYERS, HEADS, WIDTH // HEADS, capacity, self.device, self.output.weight.dtype
        )

    def prefix_slots(self, speaks: list[list[int]]) -> Slots:
        place = torch.arange(-self.prefix, 0)
        return Slots.of(place, torch.zeros_like(place), torch.tensor(speaks))

    def start(
        self,
        label: int = 0,
        seed: int = 0,
        options: Options | None = None,
        tokens: Tokens | None = None,
    ) -> list[Row]:
        tokens = tokens or empty(
            self.layout, codes=self.codes, width=self.width, dtype=torch.float64
        )
        condition = {"label": torch.tensor([label])}
        return self.begin(tokens, condition, options or Options(), SeededNoise(seed))


class Causal(Fake):
    """Raster, one token a step, shifted by the prefix."""

    def slots(self, row: Row, step: Step) -> Slots:
        if step.index == 0:
            return self.prefix_slots([[self.prefix - 1, 0, 0]])
        place = torch.tensor([step.index - 1])
        return Slots.of(place, place + 1, torch.tensor([[0, 0, step.index]]))


class Neighbours(Fake):
    """NAR: a diagonal a step; tokens predict to their right (head 0) and below (head 1)."""

    def __init__(self, side: int) -> None:
        super().__init__(grid(side, side), outputs=2 * CODES)
        self.side = side

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        return Partition(tokens.layout.coordinates()[:, 2:].sum(1))

    def slots(self, row: Row, step: Step) -> Slots:
        if step.index == 0:
            return self.prefix_slots([[0, 0, 0]])
        place = [p for p in range(self.side**2) if sum(divmod(p, self.side)) == step.index - 1]
        speaks = []
        for slot, p in enumerate(place):
            if p % self.side < self.side - 1:
                speaks.append([slot, 0, p + 1])
            if p // self.side < self.side - 1:
                speaks.append([slot, 1, p + self.side])
        here = torch.tensor(place)
        return Slots.of(here, torch.full_like(here, step.index), torch.tensor(speaks))

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        both = super().forward(packed, memory).unflatten(-1, (2, CODES))
        head = packed.slots.speaks[..., 1, None, None].expand(-1, -1, 1, CODES)
        return both.gather(2, head).squeeze(2)


class Flow:
    """xAR's draw: Euler steps whose velocity is the backbone itself, several passes a step."""

    def __init__(self, steps: int, watch: list[list[int]] | None = None) -> None:
        self.steps = steps
        self.watch = watch

    def draw(self, turn: Turn) -> Drawn:
        x = turn.noise("normal", "flow", shape=(Cells.width,))
        for k in range(self.steps):
            level = torch.full((len(turn.rows),), 1 - k / self.steps, dtype=torch.float64)
            x = x - turn.evaluate(x, level).guided() / self.steps
            if self.watch is not None:
                self.watch.append(turn.memory.mark(turn.rows[0]))  # type: ignore[attr-defined]
        return Drawn(values=x)


class Cells(Fake):
    """xAR, ACDiT: blocks of vectors; the clean block before enters memory, the noisy one not."""

    visible = staticmethod(skip_causal)
    codes, width = 0, 3

    def __init__(self, blocks: int, size: int, steps: int = 3) -> None:
        super().__init__(grid(1, blocks * size, kind="values"), outputs=self.width)
        self.size = size
        self.content = nn.Linear(self.width, WIDTH, dtype=torch.float64)
        self.levels = nn.Parameter(torch.randn(WIDTH, dtype=torch.float64))
        self.head = Flow(steps)  # type: ignore[assignment]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        return Partition(torch.arange(len(self.layout)) // self.size)

    def slots(self, row: Row, step: Step) -> Slots:
        before = step.draw - self.size if step.index else torch.arange(-self.prefix, 0)
        place = torch.cat([before, step.draw])
        noisy = torch.arange(len(place)) >= len(before)
        itself = torch.arange(len(before), len(place))
        speaks = torch.stack([itself, torch.zeros_like(itself), step.draw], dim=1)
        # a clean block is known one step after its noisy copy is drawn
        since = torch.full_like(place, step.index)
        return Slots.of(place, since, speaks, copy=noisy.long(), commit=~noisy)

    def embedded(self, packed: Packed) -> Tensor:
        return self.content(packed.values()) + packed.levels().unsqueeze(-1) * self.levels

    def memory(self, rows: Sequence[Row]) -> Memory:
        # a pass holds the clean block, the noisy one and all before
        capacity = self.prefix + len(self.layout) + self.size
        return KeyValueMemory(LAYERS, HEADS, WIDTH // HEADS, capacity, self.device, torch.float64)


@dataclass(frozen=True)
class Sliding:
    """AR-Diffusion: frame i goes from noise to done in `parts` updates, `lag` steps after i - 1."""

    frames: int
    parts: int
    lag: int

    def level(self, step: int) -> Tensor:
        """Return the level of every frame before a step, float [frames]."""
        done = step - self.lag * torch.arange(self.frames, dtype=torch.float64)
        return 1 - done.clamp(0, self.parts) / self.parts

    def next(self, row: Row) -> Step | None:
        now, then = self.level(row.step), self.level(row.step + 1)
        moving = (now != then).nonzero().squeeze(-1)
        total = self.lag * (self.frames - 1) + self.parts
        if len(moving) == 0:
            return None
        level = torch.stack([now[moving], then[moving]], dim=1)
        return Step(moving, row.step, total, level)


class LevelHead:
    """Moves every value from its level to the next along the predicted direction."""

    def draw(self, turn: Turn) -> Drawn:
        place = turn.tokens.clamp(min=0)
        level = torch.zeros(*place.shape, 2, dtype=torch.float64)
        for index, step in enumerate(turn.steps):
            assert step.level is not None
            level[index, : len(step.draw)] = step.level
        values = torch.stack([row.tokens.values[0] for row in turn.rows])  # type: ignore[index]
        now = values.gather(1, place.unsqueeze(-1).expand(-1, -1, values.shape[-1]))
        fresh = turn.noise("normal", "frame", shape=(values.shape[-1],))
        now = torch.where(level[..., :1] == 1, fresh, now)
        direction = turn.evaluate(now, level[..., 0]).guided()
        return Drawn(values=now - (level[..., :1] - level[..., 1:]) * direction)


class Frames(Fake):
    """Frames at their own levels: done ones clean, moving ones noisy, later ones not there."""

    codes, width = 0, 3
    visible = staticmethod(everything)

    def __init__(self, frames: int, parts: int, lag: int) -> None:
        super().__init__(grid(1, 1, frames, kind="values"), outputs=self.width)
        self.sliding = Sliding(frames, parts, lag)
        self.content = nn.Linear(self.width, WIDTH, dtype=torch.float64)
        self.levels = nn.Parameter(torch.randn(WIDTH, dtype=torch.float64))
        self.head = LevelHead()  # type: ignore[assignment]

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        return self.sliding

    def slots(self, row: Row, step: Step) -> Slots:
        done = row.tokens.known[0].nonzero().squeeze(-1)
        place = torch.cat([torch.tensor([-1]), done, step.draw])
        noisy = torch.arange(len(place)) > len(done)
        itself = noisy.nonzero().squeeze(-1)
        speaks = torch.stack([itself, torch.zeros_like(itself), step.draw], dim=1)
        since = torch.zeros_like(place)
        return Slots.of(place, since, speaks, copy=noisy.long(), commit=False)

    def embedded(self, packed: Packed) -> Tensor:
        return self.content(packed.values()) + packed.levels().unsqueeze(-1) * self.levels

    def memory(self, rows: Sequence[Row]) -> Memory:
        return NoMemory()


@dataclass(frozen=True)
class Confidence:
    """MaskGIT, Meissonic: draw all that is masked, then mask the least certain again."""

    steps: int

    def next(self, row: Row) -> Step | None:
        if row.step == self.steps:
            return None
        assert row.logprob is not None
        free = row.free(torch.arange(len(row.logprob)))
        count = math.ceil(len(free) * math.cos(math.pi / 2 * row.step / self.steps))
        least = torch.argsort(row.logprob[free], stable=True)[:count]
        return Step(free[least].sort().values, row.step, self.steps, again=row.step)


class Masked(Fake):
    """Bidirectional; unknown tokens are read as a mask."""

    visible = staticmethod(everything)

    def __init__(self, layout: Layout, steps: int) -> None:
        super().__init__(layout)
        self.confidence = Confidence(steps)
        self.mask = nn.Parameter(torch.randn(WIDTH, dtype=torch.float64))

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        return self.confidence

    def slots(self, row: Row, step: Step) -> Slots:
        place = torch.arange(-1, len(self.layout))
        speaks = torch.stack([step.draw + 1, torch.zeros_like(step.draw), step.draw], dim=1)
        return Slots.of(place, torch.zeros_like(place), speaks, commit=False)

    def embedded(self, packed: Packed) -> Tensor:
        known = packed.known().unsqueeze(-1)
        return torch.where(known, super().embedded(packed), self.mask)

    def memory(self, rows: Sequence[Row]) -> Memory:
        return NoMemory()
