"""Head: draws one step's content from the network's output, and its loss."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from limner.core.guidance import mix
from limner.core.order import Step
from limner.core.row import Row


@dataclass(frozen=True)
class LossBreakdown:
    """A loss to be minimised and the named parts it is made of (detached, for logs).

    Args:
        total: float [].
        parts: name -> float [].
    """

    total: Tensor
    parts: dict[str, Tensor]


@dataclass(frozen=True)
class Outputs:
    """The network's outputs for the tokens of one step.

    Args:
        lead: float [R, n, ...], one entry a token.
        null: the same of the null rows (a row without one repeats its lead); None: no null rows.
        scales: float [R], guidance scale now; NaN: off.
    """

    lead: Tensor
    null: Tensor | None
    scales: Tensor

    def guided(self) -> Tensor:
        """Return null + s (lead - null), float [R, n, ...]."""
        return self.lead if self.null is None else mix(self.lead, self.null, self.scales)


@dataclass(frozen=True)
class Drawn:
    """What a head drew.

    Args:
        ids: int64 [R, n, C], or None.
        values: float [R, n, D], or None.
        logprob: float [R, n], log-probability of what was drawn, or None where it has none.
        done: bool [R, n], which tokens are; the others will be drawn again. None: as the step says.
    """

    ids: Tensor | None = None
    values: Tensor | None = None
    logprob: Tensor | None = None
    done: Tensor | None = None


class Turn(Protocol):
    """One step of several lead rows, as a head sees it.

    Attributes:
        rows: the lead rows, R of them, maybe at different steps.
        steps: the step of each.
        tokens: int64 [R, n] on the CPU, drawn now; rows that draw fewer are padded with -1.
        device: where outputs are computed.
    """

    rows: Sequence[Row]
    steps: Sequence[Step]
    tokens: Tensor
    device: torch.device

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        """Run the network on all rows. The first call also commits what the step adds to memory;
        later calls are scratch passes (a solver's inner steps).

        Args:
            draft: float [R, n, D], noisy content of the tokens being drawn.
            level: float [R] or [R, n], the noise level of the draft.
        """
        ...

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        """Return every row's own noise, float64 [R, n, *shape]; kind: normal, uniform, gumbel."""
        ...


class Head(Protocol):
    """Draws, and teaches the network to be drawn from."""

    def loss(
        self, outputs: Tensor, targets: Tensor, rng: torch.Generator | None, weight: Tensor | None
    ) -> LossBreakdown:
        """Return the loss of outputs [B, n, ...] against targets [B, n, C or D].

        Args:
            weight: float or bool [B, n], which tokens count; None: all.
        """
        ...

    def draw(self, turn: Turn) -> Drawn:
        """Draw the tokens of this turn."""
        ...
