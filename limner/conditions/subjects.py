"""A subject as a condition: learned vectors beside what a frozen condition says.

Around a condition that reads text features, a word of the prompt stands for them: at its place
there are the learned vectors instead of the encoder's one, and the text grows. Around any other
condition (classes, captions of a trained encoder) they are added to what it says of the subject's
kind, and begin with nothing.

Source: `special_token` in infinity/models/infinity_final.py of jiwoogit/ARBooth; what is added to
other conditions is limner's own.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.conditions.text import TextFeatures, encoded, right_padded
from limner.core.errors import ConfigError
from limner.core.request import Request, TextEncoder
from limner.core.row import Condition


class PlacingEncoder(TextEncoder, Protocol):
    """A text encoder that can say where a word stands that it does not know."""

    def encode_around(self, prompts: Any, word: str) -> tuple[Tensor, Tensor, Tensor]:
        """Return what `encode` does, and the word's place, int64 [B]; -1 where it is absent."""
        ...


class SubjectCondition(nn.Module):
    """A condition that also knows a subject; everything of the subject is in `words`.

    Its conditions hold "subject" beside what the inner one's hold; those without it ask for none.

    Args:
        inner: the condition of the generator that is tuned.
        word: that stands for the subject.
        rows: number of learned vectors.
        width: of them.
    """

    inner: Any

    def __init__(self, inner: nn.Module, word: str, rows: int, width: int) -> None:
        super().__init__()
        self.inner = inner
        self.word = word
        self.words = nn.Parameter(torch.zeros(rows, width))

    @property
    def by(self) -> tuple[str, ...]:
        """What pictures may be asked by."""
        by: tuple[str, ...] = self.inner.by
        return by

    @property
    def length(self) -> int:
        """Places of the prefix."""
        return int(self.inner.length)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T] on the CPU: which prefix places hold something."""
        present: Tensor = self.inner.present(condition)
        return present

    def null(self, condition: Condition) -> Condition:
        """Return the inner null condition, without a subject."""
        null: Condition = self.inner.null(condition)
        if "subject" in condition:
            null = {**null, "subject": self._nobody(condition["subject"])}
        return null

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Replace a random share of the rows by null ones."""
        null = self.null(condition)
        rows = len(next(iter(condition.values())))
        dropped = torch.rand(rows, generator=rng) < share
        return {
            name: torch.where(
                dropped.to(value.device).view(-1, *[1] * (value.dim() - 1)), null[name], value
            )
            for name, value in condition.items()
        }

    def _nobody(self, subject: Tensor) -> Tensor:
        raise NotImplementedError


class SubjectInText(SubjectCondition):
    """Text features with the subject's vectors at the place of its word.

    "subject" is int64 [B, T]: which of the vectors stands at a place, -1 elsewhere.
    """

    inner: TextFeatures

    def ask(self, request: Request) -> Condition:
        """Return the prompts' features, with room for the subject where its word stands.

        Raises:
            ConfigError: classes are given, or prompts without a text encoder that fits.
        """
        if request.prompts is None or not any(self.word in p for p in request.prompts):
            asked = self.inner.ask(request)
            nowhere = torch.full((request.count,), -1)
            return self.with_room(asked, nowhere)
        place = getattr(request.encoder, "encode_around", None)
        if place is None:
            raise ConfigError(
                f"the word {self.word!r} needs a text encoder that says where it stands: give a T5 "
                "as text_encoder"
            )
        features, present, places = place(request.prompts, self.word)
        known = _Encoded(features, present)
        asked = right_padded(
            *encoded(replace(request, encoder=known), self.inner.features, self.inner.length)
        )
        return self.with_room(asked, places)

    def with_room(self, condition: Condition, places: Tensor) -> Condition:
        """Return text features with room for the subject.

        Args:
            condition: of the inner condition, T features.
            places: int64 [B], of the word that gives way; -1: none.

        Returns:
            The same with `rows` - 1 features more where T allows it, and "subject".
        """
        text, present = condition["text"], condition["present"]
        more = len(self.words) - 1
        length = min(text.shape[1] + more, self.inner.length)
        place = torch.arange(length, device=text.device)
        word = places.to(text.device).unsqueeze(1)
        behind = (place - more).maximum(word)
        source = torch.where((word >= 0) & (place > word), behind, place)
        source = source.clamp(max=text.shape[1])  # one further: padding
        here = (word >= 0) & (place >= word) & (place <= word + more)
        text = functional.pad(text, (0, 0, 0, 1))
        grown = text.gather(1, source.unsqueeze(-1).expand(-1, -1, text.shape[2]))
        return {
            **condition,
            "text": grown.masked_fill(here.unsqueeze(-1), 0.0),
            "present": functional.pad(present, (0, 1)).gather(1, source),
            "subject": torch.where(here, place - word, -1),
        }

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, features]."""
        said = self.inner.prefix(condition)
        if "subject" not in condition:
            return said
        subject = condition["subject"].to(said.device)
        vectors = self.words.to(said)[subject.clamp(min=0)]
        return torch.where((subject >= 0).unsqueeze(-1), vectors, said)

    def _nobody(self, subject: Tensor) -> Tensor:
        return torch.full_like(subject, -1)


class SubjectBeside(SubjectCondition):
    """The subject's vectors, added to what the inner condition says of its kind.

    Prompts that hold the word are asked without it; a class one further than the inner condition
    knows is the subject's kind. "subject" is bool [B].

    Args:
        inner, word, rows, width: see `SubjectCondition`; as many rows as the inner prefix has.
        kind: class of the subject, where pictures are asked by class.
    """

    def __init__(
        self, inner: nn.Module, word: str, rows: int, width: int, kind: int | None = None
    ) -> None:
        super().__init__(inner, word, rows, width)
        self.kind = kind

    def ask(self, request: Request) -> Condition:
        """Return what the inner condition makes of the request, and whose subject is meant.

        Raises:
            ConfigError: the inner condition cannot be asked this way.
        """
        meant = torch.zeros(request.count, dtype=torch.bool)
        labels, prompts = request.labels, request.prompts
        if labels is not None and self.kind is not None:
            subject = [label == self.inner.classes for label in labels]
            meant |= torch.tensor(subject)
            labels = [self.kind if own else label for own, label in zip(subject, labels)]
        if prompts is not None:
            meant |= torch.tensor([self.word in prompt for prompt in prompts])
            prompts = [" ".join(prompt.replace(self.word, " ").split()) for prompt in prompts]
        asked = self.inner.ask(replace(request, labels=labels, prompts=prompts))
        return {**asked, "subject": meant}

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]."""
        said: Tensor = self.inner.prefix(condition)
        if "subject" not in condition:
            return said
        meant = condition["subject"].to(said).view(-1, 1, 1)
        return said + meant * self.words.to(said)

    def _nobody(self, subject: Tensor) -> Tensor:
        return torch.zeros_like(subject)


class _Encoded:
    """A text encoder that has read its prompts already."""

    def __init__(self, features: Tensor, present: Tensor) -> None:
        self.read = features, present

    def encode(self, prompts: Any) -> tuple[Tensor, Tensor]:
        return self.read
