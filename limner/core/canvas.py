"""Canvas: step inputs that are not the drawn tokens themselves (VAR, FlexVAR, Infinity, FlowAR)."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from limner.core.tokens import Tokens


class Canvas(Protocol):
    """What all earlier steps add up to, and what the next step reads of it."""

    def teach(
        self, tokens: Tokens, rng: torch.Generator | None = None
    ) -> tuple[Tensor | None, Tokens]:
        """Return the inputs of every step at once, float [B, N, D], and the targets to learn."""
        ...

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor | None:
        """Return the canvas [R, ...] with one drawn segment of the tokens added."""
        ...

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor | None:
        """Return the input of a segment, float [R, n, D], from what was drawn before it."""
        ...


def read_all(canvas: Canvas, tokens: Tokens) -> Tensor | None:
    """Return what all segments read while these tokens are drawn, float [B, N, D].

    None where the canvas gives nothing to read.
    """
    state, inputs = None, []
    for segment in range(len(tokens.layout.segments)):
        read = canvas.read(state, tokens, segment)
        if read is None:
            return None
        inputs.append(read)
        state = canvas.add(state, tokens, segment)
    return torch.cat(inputs, dim=1)


class NoCanvas:
    """For generators that read the tokens themselves."""

    def teach(
        self, tokens: Tokens, rng: torch.Generator | None = None
    ) -> tuple[Tensor | None, Tokens]:
        """Return no inputs, and the tokens as targets."""
        return None, tokens

    def add(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor | None:
        """Return None."""
        return None

    def read(self, canvas: Tensor | None, tokens: Tokens, segment: int) -> Tensor | None:
        """Return None."""
        return None
