"""Request: what pictures are asked for, before a model's own condition is made of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from torch import Tensor

from limner.core.row import Condition


class TextEncoder(Protocol):
    """Turns prompts into features; frozen, and given beside the model."""

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """Return features, float [B, T, width], and which are present, bool [B, T], text first."""
        ...


@dataclass(frozen=True)
class Request:
    """Pictures asked for by class, style, prompt, several of them, or nothing (unconditional).

    Args:
        count: B, number of pictures.
        labels: B class numbers, or None.
        prompts: B texts, or None.
        styles: B style numbers, or None.
        encoder: for models that read features of a text encoder; None: none at hand.
    """

    count: int
    labels: Sequence[int] | None = None
    prompts: Sequence[str] | None = None
    styles: Sequence[int] | None = None
    encoder: TextEncoder | None = None


class Conditioner(Protocol):
    """What a generator makes of a request.

    Attributes:
        by: what pictures may be asked by, of "prompt", "style" and "class".
    """

    by: tuple[str, ...]

    def ask(self, request: Request) -> Condition:
        """Return the condition of all B pictures.

        Raises:
            ConfigError: the generator cannot be asked this way.
        """
        ...

    def null(self, condition: Condition) -> Condition:
        """Return the condition that says nothing, for rows that guide such ones."""
        ...
