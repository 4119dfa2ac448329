"""Row: one sequence that is being drawn, and what a caller may ask of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.guidance import Guidance, Unguided
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.tokens import Tokens

Condition = dict[str, Tensor]
"""What is asked for, by name, each tensor with a leading batch dimension: {"label": int64 [B]}."""


@dataclass(frozen=True)
class Options:
    """How one picture is to be drawn.

    Args:
        guidance: schedule of classifier-free guidance.
        temperature: of the draw; 0 takes the most likely token.
        top_k: keep the k most likely tokens; 0 keeps all.
        top_p: keep the smallest set whose probability reaches p; 1 keeps all.
        min_p: keep tokens at least this share of the most likely one; 0 keeps all.
        steps: number of steps, where the order lets one choose; None: the model's default.
        processors: logits processors of this row alone, run between guidance and temperature.
        mixture: draw mixtures of codes, see `limner.heads.mixtures`; the row's tokens must then
            have room for values. None: codes.
        annealing: fewer solver steps as drawing goes on, see `limner.heads.annealing`. None: the
            head's own number at every step.
        last_noise: diffusion heads add the noise of their last step too, as their chain defines it;
            published samplers leave it out.
    """

    guidance: Guidance = field(default_factory=Unguided)
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    steps: int | None = None
    processors: tuple[Any, ...] = ()
    mixture: Any = None
    annealing: Any = None
    last_noise: bool = False

    def __post_init__(self) -> None:
        check(self.temperature >= 0, "temperature", self.temperature, "0 or more")
        check(self.top_k >= 0, "top_k", self.top_k, "0 (off) or more")
        check(0 < self.top_p <= 1, "top_p", self.top_p, "above 0 and at most 1")
        check(0 <= self.min_p < 1, "min_p", self.min_p, "at least 0 and below 1")
        check(self.steps is None or self.steps > 0, "steps", self.steps, "1 or more")


@dataclass(eq=False)
class Row:
    """One sequence; a guided picture is a lead row and its null row or rows.

    Args:
        tokens: a batch of one; null rows share their lead's.
        order: says what is drawn next.
        noise: random numbers of this row.
        condition: a batch of one.
        options: how to draw.
        step: number of the next step.
        held: bool [N], tokens that were given and are never overwritten; None: there are none.
        canvas: what the step inputs are computed from, where the generator has a canvas.
        logprob: float [N], log-probability of each drawn token under the distribution drawn from.
        last: int64 [N], step at which each token was drawn last; -1: never.
        lead: for a null row, the row it guides.
        slot: the row's place in memory; -1 before it is admitted.
    """

    tokens: Tokens
    order: Order
    noise: Noise
    condition: Condition
    options: Options = field(default_factory=Options)
    step: int = 0
    held: Tensor | None = None
    canvas: Tensor | None = None
    logprob: Tensor | None = None
    last: Tensor | None = None
    lead: Row | None = None
    slot: int = -1

    def __post_init__(self) -> None:
        if self.held is None and bool(self.tokens.known.any()):
            self.held = self.tokens.known[0].clone().cpu()
        if self.logprob is None:
            self.logprob = torch.zeros(len(self.tokens.layout))
        if self.last is None:
            self.last = torch.full((len(self.tokens.layout),), -1)

    def free(self, tokens: Tensor) -> Tensor:
        """Return those of the tokens [n] that are not held."""
        return tokens if self.held is None else tokens[~self.held[tokens]]

    def copy(self) -> Row:
        """Return a row of its own that knows what this one knows."""
        return Row(
            self.tokens.clone(),
            self.order,
            self.noise,
            self.condition,
            self.options,
            held=self.held,
        )

    def null(self, condition: Condition) -> Row:
        """Return a null row that follows this one under another condition."""
        return Row(
            self.tokens, self.order, self.noise, condition, self.options, held=self.held, lead=self
        )


@dataclass(frozen=True)
class Event:
    """What one row drew in one step, for hooks and streams."""

    row: Row
    step: Step
    finished: bool
