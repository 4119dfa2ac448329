"""Steps of an order that are drafted and decided about together, see `limner.decoding.speculation`.

The order of speculation is that of the model, its steps joined to blocks: one block is one pass of
the target.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from limner.core.errors import check
from limner.core.order import Partition, Step
from limner.core.row import Row


@dataclass(frozen=True)
class SpeculationConfig:
    """How a draft is used.

    Args:
        mode: "exact" or "released".
        drafts: G, steps that are drafted for a pass of the target.
        ratio: share of the steps that the target draws by itself at first.
        inner_temperature: deviations that distances are counted in when drafts are accepted, for
            the released mode.
        rounds: most proposals for a rejected token. A token that takes none becomes the target's
            last proposal in the exact mode (hardly ever with the default), zeros in the released.
    """

    mode: Literal["exact", "released"] = "exact"
    drafts: int = 4
    ratio: float = 0.05
    inner_temperature: float = 42.0
    rounds: int | None = None

    def __post_init__(self) -> None:
        modes = ("exact", "released")
        check(self.mode in modes, "mode", self.mode, " or ".join(modes))
        check(self.drafts >= 1, "drafts", self.drafts, "1 or more")
        check(0 <= self.ratio <= 1, "ratio", self.ratio, "from 0 to 1")
        fits = self.inner_temperature > 0
        check(fits, "inner_temperature", self.inner_temperature, "above 0")
        check(self.rounds is None or self.rounds >= 1, "rounds", self.rounds, "1 or more")

    @property
    def most_rounds(self) -> int:
        """`rounds`, or the mode's own number."""
        return self.rounds or (100 if self.mode == "released" else 10_000)


@dataclass(frozen=True, eq=False)
class Block(Step):
    """What one pass of the target decides about.

    Args:
        parts: the model's own steps.
        drafted: how many of them are drafted; the target draws the rest by itself.
    """

    parts: tuple[Step, ...] = ()
    drafted: int = 0

    @staticmethod
    def of(parts: Sequence[Step], drafted: int) -> Block:
        """Join steps; number and level are those of the last."""
        last = parts[-1]
        draw = torch.cat([part.draw for part in parts])
        return Block(draw, last.index, last.total, parts=tuple(parts), drafted=drafted)

    @property
    def ahead(self) -> int:
        """How many tokens are drafted: the first ones."""
        return sum(len(part.draw) for part in self.parts[: self.drafted])

    def span(self, part: int) -> slice:
        """Return where the tokens of a part stand in `draw`."""
        start = sum(len(each.draw) for each in self.parts[:part])
        return slice(start, start + len(self.parts[part].draw))


class Blocks:
    """An order whose steps are joined for speculation.

    Args:
        order: the model's own.
        config: see `SpeculationConfig`.
    """

    def __init__(self, order: Partition, config: SpeculationConfig) -> None:
        self.order = order
        self.config = config
        self.alone = int(len(order) * config.ratio)  # the last step that the target draws alone

    def next(self, row: Row) -> Block | None:
        """Return the block that begins at the first step with unknown tokens."""
        unknown = self.order.step[~row.tokens.known[0].cpu()]
        unknown = unknown[unknown >= 0]
        if len(unknown) == 0:
            return None
        steps, begin = self.order.steps, int(unknown.min())
        if begin <= self.alone:
            return Block.of(steps[begin : begin + 1], 0)
        if self.config.mode == "released":
            # passes at multiples of the number of drafts, and at the end
            end = -(-begin // self.config.drafts) * self.config.drafts + 1
            parts = steps[begin : min(end, len(steps))]
            return Block.of(parts, len(parts))
        parts = steps[begin : begin + self.config.drafts + 1]
        return Block.of(parts, min(len(parts), self.config.drafts))
