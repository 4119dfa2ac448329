"""Re-masking by confidence: everything unknown is drawn, and what is least sure is drawn again.

Chang et al., "MaskGIT", arXiv:2202.04200; Bai et al., "Meissonic", arXiv:2410.08261; facts from
src/scheduler.py of viiika/Meissonic.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.order import Step
from limner.core.row import Row

LEAST = math.log(1e-20)
"""Log-probabilities are not compared below it."""


@dataclass(frozen=True)
class Remasking:
    """How many tokens are drawn again after each step, and how much chance there is in which.

    Args:
        steps: S, in all.
        schedule: share that is drawn again after a share r of the steps: "cosine", cos(pi r / 2),
            or "linear", 1 - r.
        heat: weight of the Gumbel noise on log-probabilities after the first step and the last;
            linear in between.
        share: of the tokens that is unknown at first; a factor on the schedule.
    """

    steps: int
    schedule: Literal["cosine", "linear"] = "cosine"
    heat: tuple[float, float] = (2.0, 0.0)
    share: float = 1.0

    def __post_init__(self) -> None:
        check(self.steps > 0, "steps", self.steps, "1 or more")
        known = ("cosine", "linear")
        check(self.schedule in known, "schedule", self.schedule, " or ".join(known))
        check(min(self.heat) >= 0, "heat", self.heat, "0 or more, twice")
        check(0 <= self.share <= 1, "share", self.share, "from 0 to 1")

    def left(self, index: int) -> int:
        """Return how many steps follow on a step: the official timestep."""
        return self.steps - 1 - index

    def heats(self) -> Tensor:
        """Return the weight of the noise after every step, float32 [S]."""
        return torch.linspace(*self.heat, self.steps)

    def ratio(self, index: int) -> Tensor:
        """Return the share of all tokens that is unknown again after a step, float32 []."""
        done = torch.tensor(index + 1) / self.steps  # float32, as released: counts are cut by it
        left = torch.cos(done * math.pi / 2) if self.schedule == "cosine" else 1 - done
        return self.share * left

    def count(self, index: int, total: int, drawn: int) -> int:
        """Return how many tokens are drawn again after a step that is not the last.

        Args:
            index: number of the step.
            total: N, length of the sequence.
            drawn: at the step.
        """
        return max(1, min(drawn - 1, int((total * self.ratio(index)).floor())))

    def unknown(self, uniform: Tensor, index: int) -> Tensor:
        """Return which tokens a picture loses that is to be drawn from after a step on: bool [N].

        Args:
            uniform: numbers in (0, 1), float [N].
            index: number of the step.
        """
        return uniform < self.ratio(index)


class ConfidenceOrder:
    """Draws what is unknown; then, step by step, what of the last draw was least sure.

    Args:
        config: see `Remasking`.
    """

    def __init__(self, config: Remasking) -> None:
        self.config = config

    def next(self, row: Row) -> Step | None:
        """Return the next step of the row, or None when it is finished."""
        index, total = row.step, self.config.steps
        if index >= total:
            return None
        draw = (~row.tokens.known[0]).nonzero().squeeze(-1).cpu()
        if len(draw) == 0:
            draw = self._unsure(row, index - 1)
        return Step(draw, index, total, again=index) if len(draw) else None

    def _unsure(self, row: Row, index: int) -> Tensor:
        """Return the tokens of a step that are drawn again, int64 [n], ascending."""
        assert row.last is not None and row.logprob is not None
        drawn = (row.last == index).nonzero().squeeze(-1)
        if index < 0 or len(drawn) == 0:
            return drawn[:0]
        heat = float(self.config.heats()[index])
        noise = row.noise.gumbel(purpose(index), drawn, 0)
        sure = row.logprob[drawn].clamp(min=LEAST).double() + heat * noise
        count = self.config.count(index, len(row.tokens.layout), len(drawn))
        return drawn[sure.argsort(stable=True)[:count]].sort().values


def purpose(index: int) -> str:
    """Return what the noise on the confidence after a step is asked for by."""
    return f"confidence/{index}"
