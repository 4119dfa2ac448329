"""What replays share: whole runs with their logits recorded, and stages on given logits."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.head import Outputs
from limner.core.layout import Layout, grid
from limner.core.memory import Memory
from limner.core.noise import Noise, SeededNoise
from limner.core.order import Partition, Step
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots
from limner.core.tokens import Tokens, empty, stack
from limner.decoding import generate
from limner.heads.categorical import CategoricalHead


@dataclass(frozen=True)
class Drawing:
    """A whole run.

    Args:
        ids: int64 [B, N, C].
        logits: float [B, N, V], guided, before temperature, at the step that drew each token.
        tokens: with the values that were drawn, where there are any.
    """

    ids: Tensor
    logits: Tensor
    tokens: Tokens


class Recorder:
    """A logits processor that changes nothing and remembers what it saw."""

    def __init__(self) -> None:
        self.seen: dict[int, Tensor] = {}

    def __call__(self, logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        """Remember the logits [n, V] of int64 tokens [n]."""
        self.seen.update(zip(tokens.tolist(), logits.detach().clone(), strict=True))
        return logits

    def logits(self) -> Tensor:
        """Return the logits of all tokens by place, float [N, V]."""
        return torch.stack([self.seen[token] for token in sorted(self.seen)])


def draw(
    generator: Generator,
    layout: Layout,
    condition: Condition,
    options: Options,
    noises: Sequence[Noise] | None = None,
    given: Tokens | None = None,
    memory: Memory | None = None,
) -> Drawing:
    """Draw one sequence for every entry of a condition, all rows together, by the usual loop.

    Args:
        condition: a batch of B.
        options: of every row.
        noises: of each row; None: any, for runs that take the most likely token.
        given: tokens [B, N] of which those that are known are held; None: ids, none known.
        memory: an empty one to draw in; None: the generator's.
    """
    count = len(next(iter(condition.values())))
    noises = noises or [SeededNoise(index) for index in range(count)]
    recorders = [Recorder() for _ in range(count)]
    given = given or empty(layout, count, codes=1)
    rows: list[Row] = []
    for index, (noise, recorder) in enumerate(zip(noises, recorders, strict=True)):
        own = {name: tensor[index : index + 1] for name, tensor in condition.items()}
        recorded = replace(options, processors=(*options.processors, recorder))
        rows += generator.begin(given.row(index).clone(), own, recorded, noise)
    drawn = stack([row.tokens for row in generate(generator, rows, memory=memory)])
    assert drawn.ids is not None
    return Drawing(drawn.ids, torch.stack([recorder.logits() for recorder in recorders]), drawn)


def filtered(logits: Tensor, options: Options, head: CategoricalHead | None = None) -> Tensor:
    """Return logits [n, V] as a head's stages leave them under these options."""
    return (head or CategoricalHead()).filtered(_GivenTurn(logits, options))[0]


def all_speaking(slots: Slots, head: int = 0) -> Slots:
    """Return the slots [B, L] with every one of them speaking, so a pass gives all L outputs.

    Args:
        head: with which they speak.
    """
    batch, length = slots.place.shape
    index = torch.arange(length)
    heads, nothing = torch.full_like(index, head), torch.full_like(index, -1)
    speaks = torch.stack([index, heads, nothing], dim=-1)
    return replace(slots, speaks=speaks.expand(batch, length, 3))


class _GivenTurn:
    """A turn of one row whose outputs are given; see `limner.core.head.Turn`."""

    def __init__(self, logits: Tensor, options: Options) -> None:
        count = len(logits)
        order = Partition(torch.zeros(count, dtype=torch.int64))
        tokens = empty(grid(1, count), codes=1)
        self.rows: Sequence[Row] = [Row(tokens, order, SeededNoise(0), {}, options)]
        self.steps: Sequence[Step] = order.steps
        self.tokens = torch.arange(count).unsqueeze(0)
        self.device = logits.device
        self._logits = logits

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        return Outputs(self._logits.unsqueeze(0), None, torch.full((1,), float("nan")))

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        noise = getattr(self.rows[0].noise, kind)
        drawn: Tensor = noise(purpose, self.steps[0].draw, inner, shape)
        return drawn.unsqueeze(0)
