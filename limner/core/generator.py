"""Generator: the network that reads what is drawn so far; one published system is one subclass."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.canvas import Canvas, NoCanvas
from limner.core.head import Head, LossBreakdown
from limner.core.layout import Layout
from limner.core.memory import Memory, NoMemory
from limner.core.noise import Noise
from limner.core.order import Order, Step
from limner.core.request import Conditioner
from limner.core.row import Condition, Options, Row
from limner.core.slots import Slots
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens


@dataclass(eq=False)
class Packed:
    """One network pass over R rows, in training (all steps at once) and in sampling alike.

    Args:
        tokens: what every row knows, [R, N].
        slots: what the pass reads, fields [R, L] on the CPU.
        conditions: each row's condition; in training one batch of R.
        rows: the rows, in sampling; empty in training.
        fed: float [R, L, D], inputs read from the canvas, or None.
        noisy: float [R, N, D], noisy contents that slots with `copy` 1 read, or None.
        level: float [R, N], noise level of those contents, or None.
    """

    tokens: Tokens
    slots: Slots
    conditions: Sequence[Condition]
    rows: Sequence[Row] = ()
    fed: Tensor | None = None
    noisy: Tensor | None = None
    level: Tensor | None = None

    @property
    def device(self) -> torch.device:
        """Where the pass is computed."""
        return self.tokens.known.device

    @cached_property
    def condition(self) -> Condition:
        """All rows' conditions as one batch of R; joined when first asked for."""
        first = self.conditions[0]
        if len(self.conditions) == 1:
            return first
        return {name: torch.cat([c[name] for c in self.conditions]) for name in first}

    @cached_property
    def place(self) -> Tensor:
        """int64 [R, L] on the pass's device; prefix slots are negative."""
        return self.slots.place.to(self.device)

    def ids(self) -> Tensor:
        """Return the ids at every slot's place, int64 [R, L, C]; arbitrary on prefix slots."""
        assert self.tokens.ids is not None
        return _take(self.tokens.ids, self.place)

    def values(self) -> Tensor:
        """Return the contents at every slot's place, float [R, L, D]; noisy where `copy` is 1."""
        assert self.tokens.values is not None
        clean = _take(self.tokens.values, self.place)
        if self.noisy is None:
            return clean
        copy = self.slots.copy.to(self.device).unsqueeze(-1)
        return torch.where(copy == 1, _take(self.noisy, self.place), clean)

    def levels(self) -> Tensor:
        """Return the noise level of every slot, float [R, L]; 0 for clean contents."""
        if self.level is None:
            return torch.zeros(self.place.shape, device=self.device)
        level = _take(self.level.unsqueeze(-1), self.place).squeeze(-1)
        return level.where(self.slots.copy.to(self.device) == 1, torch.zeros_like(level))

    def known(self) -> Tensor:
        """Return whether every slot's content is known, bool [R, L]; the prefix always is."""
        return _take(self.tokens.known.unsqueeze(-1), self.place).squeeze(-1) | (self.place < 0)

    def coordinates(self) -> Tensor:
        """Return scale, frame, row, column of every slot, int64 [R, L, 4]; 0 on prefix slots."""
        table = self.tokens.layout.coordinates().to(self.device)
        return table[self.place.clamp(min=0)]

    def speaking(self, hidden: Tensor) -> Tensor:
        """Return the hidden states that speak, float [R, M, D] of [R, L, D]."""
        slot = self.slots.speaks[..., 0]
        if slot.shape[1] == hidden.shape[1] and bool((slot == torch.arange(slot.shape[1])).all()):
            return hidden
        return _take(hidden, slot.to(hidden.device))


def _take(table: Tensor, index: Tensor) -> Tensor:
    """Return table [R, N, C] at index [R, L]; negative indices read entry 0."""
    index = index.clamp(min=0).unsqueeze(-1).expand(-1, -1, table.shape[-1])
    return table.gather(1, index)


class Generator(nn.Module):
    """Base of all generators.

    Attributes:
        config: its frozen dataclass.
        head: how one step's content is drawn.
        condition: what is made of a request.
        guidance: name of the published guidance schedule, see `limner.heads.guidance`.
        canvas: what step inputs are computed from; set by the pipeline to its tokenizer's.
        mixes: whether it draws vectors in place of codes at every step, see `Options.mixture`.
        grows: whether `loss` takes a further `weight`, float [N], how much each token counts.
    """

    config: Any
    head: Head
    condition: Conditioner
    guidance: str = "constant"
    mixes: bool = False
    grows: bool = False

    def __init__(self) -> None:
        super().__init__()
        # in a tuple: the tokenizer's weights are not the generator's
        self._canvas: tuple[Canvas] = (NoCanvas(),)

    @property
    def canvas(self) -> Canvas:
        """What step inputs are computed from."""
        return self._canvas[0]

    @canvas.setter
    def canvas(self, canvas: Canvas) -> None:
        self._canvas = (canvas,)

    def __setattr__(self, name: str, value: Any) -> None:
        # torch would register a canvas that is a module as a part, past the property
        if name == "canvas":
            object.__setattr__(self, name, value)
        else:
            super().__setattr__(name, value)

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        """Return the teacher-forced loss of fully known tokens [B, N].

        Args:
            rng: for dropped conditions, noise, random orders; None: nothing is dropped and random
                quantities follow a fixed seed (evaluation).
        """
        raise NotImplementedError

    def layout(
        self,
        tokenizer: Tokenizer,
        height: int,
        width: int,
        steps: int | None = None,
        frames: int | None = None,
    ) -> Layout:
        """Return where the tokens stand of a picture that is to be drawn: as the tokenizer says.

        Args:
            tokenizer: whose tokens they are.
            height: of the picture, in pixels.
            width: of the picture, in pixels.
            steps: asked for, for generators that choose by it where tokens stand.
            frames: of clips; None: the tokenizer's, or a picture.

        Raises:
            ConfigError: the size, or the number of steps or frames, is not accepted.
        """
        if frames is None:
            return tokenizer.layout(height, width)
        return tokenizer.layout(height, width, frames)

    def check_layout(self, layout: Layout) -> None:
        """Raise ConfigError where tokens that stand so cannot be learned or drawn."""

    def order(self, tokens: Tokens, options: Options, noise: Noise) -> Order:
        """Return the order in which one row's unknown tokens are drawn."""
        raise NotImplementedError

    def null(self, condition: Condition) -> Condition:
        """Return the condition of a null row beside this one: by default what `condition` says.

        Raises:
            LimnerError: the generator cannot be guided.
        """
        return self.condition.null(condition)

    def begin(
        self, tokens: Tokens, condition: Condition, options: Options, noise: Noise
    ) -> list[Row]:
        """Return the rows that draw one picture: the lead, then a null row if it is guided.

        Args:
            tokens: a batch of one; what is known in it is held fixed.
        """
        lead = Row(tokens, self.order(tokens, options, noise), noise, condition, options)
        return [lead, lead.null(self.null(condition))] if options.guidance.active else [lead]

    def slots(self, row: Row, step: Step) -> Slots:
        """Return what the network reads for this row at this step."""
        raise NotImplementedError

    def inputs(self, packed: Packed) -> Tensor:
        """Return the network's inputs, float [R, L, D]; controls are added here."""
        raise NotImplementedError

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return the outputs that speak, float [R, M, ...]; rows may be at different steps."""
        raise NotImplementedError

    def memory(self, rows: Sequence[Row]) -> Memory:
        """Return an empty memory with room for these rows."""
        return NoMemory()

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next(self.parameters()).device
