"""Texts as features of every word and one vector of the whole, for generators that read both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

from limner.conditions.captions import CaptionCondition
from limner.conditions.text import encoded
from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition


class PooledEncoder(Protocol):
    """A text encoder that also gives one vector a text (CLIP's projected one)."""

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        """See `limner.core.request.TextEncoder`."""
        ...

    def pooled(self, prompts: Sequence[str]) -> Tensor:
        """Return float [B, D]."""
        ...


class PooledText(nn.Module):
    """Features of a frozen text encoder as they are, padding included.

    The condition is {"text": float [B, T, features], "pooled": float [B, D]}, and the same of the
    text that a null row reads, "null_text" and "null_pooled": the empty one, or a negative prompt.

    Args:
        length: T.
        features: width of the encoder's features.
        width: D of the vector of a whole text.
    """

    by: tuple[str, ...] = ("prompt",)

    def __init__(self, length: int, features: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.features = features
        self.width = width

    def ask(self, request: Request) -> Condition:
        """Return what the encoder makes of the prompts and of the empty one.

        Raises:
            ConfigError: classes are given, or an encoder that does not fit.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        encoder = request.encoder
        if encoder is None or not hasattr(encoder, "pooled"):
            raise ConfigError(
                "prompts need a text encoder that also gives one vector a text: give it as "
                "text_encoder, with methods encode and pooled"
            )
        empty = [""] * request.count
        condition = {}
        for name, prompts in (("", request.prompts or empty), ("null_", empty)):
            asked = Request(request.count, prompts=prompts, encoder=encoder)
            condition[f"{name}text"] = encoded(asked, self.features, self.length)[0]
            condition[f"{name}pooled"] = pooled = encoder.pooled(prompts)
            if pooled.shape[-1] != self.width:
                raise ConfigError(
                    f"the text encoder's vectors are {pooled.shape[-1]} wide: this model reads "
                    f"{self.width}"
                )
        return condition

    def read(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return features, float [B, T, features], and vectors, float [B, D]."""
        return condition["text"], condition["pooled"]

    def null(self, condition: Condition) -> Condition:
        """Return the condition of a row that reads the null text."""
        text, pooled = condition["null_text"], condition["null_pooled"]
        return {**condition, "text": text, "pooled": pooled}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Let a random share of the rows read the null text."""
        text, pooled = condition["text"], condition["pooled"]
        dropped = (torch.rand(len(text), generator=rng) < share).to(text.device)
        return {
            **condition,
            "text": torch.where(dropped[:, None, None], condition["null_text"], text),
            "pooled": torch.where(dropped[:, None], condition["null_pooled"], pooled),
        }


class PooledCaption(CaptionCondition):
    """Captions through a small text encoder that is trained along; their mean is the vector."""

    def read(self, condition: Condition) -> tuple[Tensor, Tensor]:
        """Return features, float [B, T, width], and vectors, float [B, width]."""
        text = self.prefix(condition)
        return text, text.mean(1)
