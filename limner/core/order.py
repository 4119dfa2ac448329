"""Order: which tokens are drawn, or redrawn, now."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from limner.core.errors import check

if TYPE_CHECKING:
    from limner.core.row import Row


@dataclass(frozen=True, eq=False)
class Step:
    """What one step draws.

    Args:
        draw: int64 [n], tokens drawn or redrawn now.
        index: number of the step, from 0.
        total: number of steps; None for an open-ended order.
        level: float [n, 2], noise level from and to (AR-Diffusion); None: unknown to done.
        again: how often these tokens may have been drawn before; a redraw gets fresh noise.
    """

    draw: Tensor
    index: int
    total: int | None
    level: Tensor | None = None
    again: int = 0

    @cached_property
    def first(self) -> int:
        """The first token that is drawn."""
        return int(self.draw[0])

    def finishes(self) -> Tensor:
        """Return bool [n]: the tokens that are done after this step."""
        if self.level is None:
            return torch.ones(len(self.draw), dtype=torch.bool)
        return self.level[:, 1] == 0


class Order(Protocol):
    """Stateless: the next step follows from the row's own state."""

    def next(self, row: Row) -> Step | None:
        """Return the next step of the row, or None when it is finished."""
        ...


class Partition:
    """The common order: every token is drawn once, at step `step[i]`.

    Args:
        step: int64 [N], step at which each token is drawn; the steps 0 .. S-1 all occur.
            -1 marks placeholders that are never drawn.

    Raises:
        ConfigError: a step number is missing.
    """

    def __init__(self, step: Tensor) -> None:
        self.step = step
        total = int(step.max()) + 1
        drawn = step[step >= 0]
        counts = torch.bincount(drawn, minlength=total)
        check(bool((counts > 0).all()), "step", step.tolist(), "a partition without empty steps")
        places = torch.argsort(step, stable=True)[len(step) - len(drawn) :]
        self.steps = tuple(
            Step(draw, index, total)
            for index, draw in enumerate(torch.split(places, counts.tolist()))
        )

    def __len__(self) -> int:
        return len(self.steps)

    def next(self, row: Row) -> Step | None:
        """Return the row's next step, or None after the last."""
        return self.steps[row.step] if row.step < len(self.steps) else None
