"""Text features as a condition: in a prefix, as LlamaGen uses them, or as they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition


class TextCondition(nn.Module):
    """Text features through a small MLP into prefix places; learned features stand for no text.

    The condition is {"text": float [B, T, features], "present": bool [B, T], "null": bool [B]}:
    features are padded on the left and zero where not present; a null row reads the learned
    features instead, under the same padding.

    Args:
        length: T, places of the prefix.
        features: width of the text encoder's features.
        width: of the sequence.

    Source: `CaptionEmbedder` in autoregressive/models/gpt.py of FoundationVision/LlamaGen.
    """

    by: tuple[str, ...] = ("prompt",)

    def __init__(self, length: int, features: int, width: int) -> None:
        super().__init__()
        self.length = length
        self.into = nn.Linear(features, width, bias=False)
        self.out = nn.Linear(width, width, bias=False)
        self.unconditional: Tensor
        self.register_buffer("unconditional", torch.randn(length, features).mul_(features**-0.5))

    def ask(self, request: Request) -> Condition:
        """Return the prompts' features; learned ones where no prompt is given.

        Raises:
            ConfigError: classes are given, or prompts without a text encoder whose features fit.
        """
        features, present = encoded(request, self.into.in_features, self.length)
        asked = left_padded(features, present)
        return asked if request.prompts is not None else self.null(asked)

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]."""
        weight = self.into.weight
        text = condition["text"].to(weight)
        dropped = condition["null"].to(weight.device).reshape(-1, 1, 1)
        text = torch.where(dropped, self.unconditional.to(weight.dtype), text)
        out: Tensor = self.out(functional.gelu(self.into(text), approximate="tanh"))
        return out

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T] on the CPU: which prefix places hold a text token."""
        return condition["present"].cpu()

    def null(self, condition: Condition) -> Condition:
        """Return the same padding without the text."""
        return {**condition, "null": torch.ones_like(condition["null"])}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Drop the text of a random share of the rows."""
        return _dropped(condition, share, rng)


class TextFeatures(nn.Module):
    """Text features as they are, for generators that read them by cross-attention.

    The condition is {"text": float [B, T, features], "present": bool [B, T], "null": bool [B]}:
    features are padded on the right and zero where not present; a null row reads as many learned
    features instead. Beside it may stand "negative" and "negative_present", a text that the null
    row reads in place of those.

    Args:
        length: T.
        features: width of the text encoder's features.

    Source: `Infinity` in infinity/models/infinity.py of StargazerX0/ScaleKV, a copy of that of
    FoundationVision/Infinity.
    """

    by: tuple[str, ...] = ("prompt",)

    def __init__(self, length: int, features: int) -> None:
        super().__init__()
        self.length = length
        self.features = features
        self.unconditional = nn.Parameter(torch.randn(length, features).mul_(features**-0.5))

    def ask(self, request: Request) -> Condition:
        """Return the prompts' features; learned ones where no prompt is given.

        Raises:
            ConfigError: classes are given, or prompts without a text encoder whose features fit.
        """
        asked = right_padded(*encoded(request, self.features, self.length))
        return asked if request.prompts is not None else self.null(asked)

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, features]."""
        learned = self.unconditional
        text = condition["text"].to(learned)
        dropped = condition["null"].to(learned.device).reshape(-1, 1, 1)
        return torch.where(dropped, learned[: text.shape[1]], text)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T] on the CPU: which features are no padding."""
        return condition["present"].cpu()

    def null(self, condition: Condition) -> Condition:
        """Return the negative text where there is one, else as many learned features."""
        if "negative" in condition:
            text, present = condition["negative"], condition["negative_present"]
            return {**condition, "text": text, "present": present}
        return {**condition, "null": torch.ones_like(condition["null"])}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Drop the text of a random share of the rows."""
        return _dropped(condition, share, rng)


def encoded(request: Request, width: int, length: int) -> tuple[Tensor, Tensor]:
    """Return the features of a request's prompts; where there are none, zeros at every place.

    Args:
        width: that features must have.
        length: T, to which they are cut or padded.

    Returns:
        float [B, T, width] and bool [B, T], text first.

    Raises:
        ConfigError: classes are given, or prompts without a text encoder whose features fit.
    """
    if request.labels is not None:
        raise ConfigError("classes are not accepted: this model is asked by prompts")
    if request.prompts is None:
        nothing = torch.zeros(request.count, length, width)
        return nothing, torch.ones(nothing.shape[:2], dtype=torch.bool)
    if request.encoder is None:
        raise ConfigError("prompts need a text encoder: give its weights as text_encoder=PATH")
    features, present = request.encoder.encode(request.prompts)
    if features.shape[-1] != width:
        raise ConfigError(
            f"the text encoder's features are {features.shape[-1]} wide: this model reads {width}"
        )
    return _fitted(features, present, length)


def _dropped(condition: Condition, share: float, rng: torch.Generator) -> Condition:
    null = condition["null"]
    dropped = torch.rand(len(null), generator=rng) < share
    return {**condition, "null": null | dropped.to(null.device)}


def _fitted(features: Tensor, present: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Cut or pad [B, T, ...] to `length` places."""
    missing = max(0, length - features.shape[1])
    features = functional.pad(features[:, :length], (0, 0, 0, missing))
    return features, functional.pad(present[:, :length], (0, missing))


def right_padded(features: Tensor, present: Tensor) -> Condition:
    """Return the condition of text features that are padded on the right, as it is.

    Args:
        features: float [B, T, features].
        present: bool [B, T], true tokens first.
    """
    return {
        "text": features * present.unsqueeze(-1).to(features.dtype),
        "present": present,
        "null": torch.zeros(len(present), dtype=torch.bool, device=present.device),
    }


def left_padded(features: Tensor, present: Tensor) -> Condition:
    """Return the condition of text features that are padded on the right.

    Args:
        features: float [B, T, features].
        present: bool [B, T], true tokens first.
    """
    length = present.shape[1]
    shift = length - present.sum(1, keepdim=True)
    source = torch.arange(length, device=present.device) - shift
    moved = features.gather(1, source.clamp(min=0).unsqueeze(-1).expand_as(features))
    here = source >= 0
    return {
        "text": moved * here.unsqueeze(-1).to(moved.dtype),
        "present": here,
        "null": torch.zeros(len(here), dtype=torch.bool, device=here.device),
    }
