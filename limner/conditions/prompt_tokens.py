"""Prompts that are tokens of a vocabulary of their own, as NBP (arXiv:2502.07737) reads them."""

from __future__ import annotations

import torch

from limner.core.errors import ConfigError, check
from limner.core.request import Request
from limner.core.row import Condition

NOTHING = -1
"""In the place of every token of a prompt that is left out."""


class PromptTokens:
    """{"prompt": int64 [B, T]}, tokens or `NOTHING`.

    Texts have to be given as tokens, by the tokenizer that a model was trained with. A class is
    its number, in all places.

    Args:
        length: T; 0: there are no prompts.
        vocabulary: number of tokens.
    """

    def __init__(self, length: int, vocabulary: int) -> None:
        self.length = length
        self.vocabulary = vocabulary
        self.by: tuple[str, ...] = ("class",) if length else ()

    def ask(self, request: Request) -> Condition:
        """Return the prompts of classes, or of nothing.

        Raises:
            ConfigError: texts are given, or a class that is no token.
        """
        if request.prompts is not None:
            raise ConfigError("prompts are not accepted as text: this model reads their tokens")
        if request.labels is None:
            return {"prompt": torch.full((request.count, self.length), NOTHING)}
        if not self.length:
            raise ConfigError("classes are not accepted: this model reads no prompt")
        for label in request.labels:
            check(0 <= label < self.vocabulary, "class", label, f"from 0 to {self.vocabulary - 1}")
        labels = torch.tensor(list(request.labels), dtype=torch.int64)
        return {"prompt": labels.unsqueeze(1).expand(-1, self.length).clone()}

    def null(self, condition: Condition) -> Condition:
        """Return the prompts left out."""
        return {"prompt": torch.full_like(condition["prompt"], NOTHING)}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Leave out a random share of the prompts."""
        prompt = condition["prompt"]
        dropped = (torch.rand(len(prompt), 1, generator=rng) < share).to(prompt.device)
        return {"prompt": torch.where(dropped, NOTHING, prompt)}
