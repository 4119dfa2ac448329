"""A prompt as ids of a decoder's own vocabulary: no text encoder stands before it."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, check
from limner.core.request import Request
from limner.core.row import Condition

BYTES = 256
"""Ids of prompts that no tokenizer is given for: those of their UTF-8 bytes."""


class WrittenCondition:
    """What a decoder reads before it draws: begin, the prompt, and that a picture starts.

    The condition is {"ids": int64 [B, T], "present": bool [B, T]}, padded on the left. The null
    prompt is the empty one.

    Args:
        length: T; the ends of longer prompts are cut.
        vocabulary: number of text ids.
        begin: id that every text begins with.
        start: id behind the text.
    """

    by: tuple[str, ...] = ("prompt",)

    def __init__(self, length: int, vocabulary: int, begin: int, start: int) -> None:
        self.length = length
        self.vocabulary = vocabulary
        self.begin = begin
        self.start = start

    def ask(self, request: Request) -> Condition:
        """Return the prompts' ids; the empty prompt where none is given.

        A request's encoder is a text tokenizer here: it returns int64 [B, T] in place of features.

        Raises:
            ConfigError: classes are given, or the prompts' ids are not of the vocabulary.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        if request.prompts is None:
            return self.of([[]] * request.count)
        if request.encoder is None:
            fits = self.vocabulary in (BYTES, BYTES + 1)
            accepted = f"{BYTES} (bytes), or a tokenizer of so many ids given as text_encoder"
            check(fits, "text_vocabulary", self.vocabulary, accepted)
            return self.of([list(prompt.encode()) for prompt in request.prompts])
        ids, present = request.encoder.encode(request.prompts)
        fits = ids.dtype == torch.int64 and ids.dim() == 2
        check(fits, "text_encoder", f"features {list(ids.shape)}", "a text tokenizer: ids [B, T]")
        return self.of([row[here].tolist() for row, here in zip(ids, present, strict=True)])

    def of(self, texts: list[list[int]]) -> Condition:
        """Return the condition of prompts given as ids, without begin.

        Raises:
            ConfigError: an id is not of the vocabulary.
        """
        rows = []
        for text in texts:
            fits = all(0 <= token < self.vocabulary for token in text)
            check(fits, "prompt ids", text, f"numbers from 0 to {self.vocabulary - 1}")
            row = [self.begin, *text[: self.length - 2], self.start]
            rows.append(functional.pad(torch.tensor(row), (self.length - len(row), 0), value=-1))
        ids = torch.stack(rows)
        return {"ids": ids.clamp(min=0), "present": ids >= 0}

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T] on the CPU: which prefix places are no padding."""
        return condition["present"].cpu()

    def null(self, condition: Condition) -> Condition:
        """Return the empty prompt for every row."""
        device = condition["ids"].device
        empty = self.of([[]] * len(condition["ids"]))
        return {name: value.to(device) for name, value in empty.items()}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Empty a random share of the prompts."""
        null = self.null(condition)
        dropped = (torch.rand(len(null["ids"]), 1, generator=rng) < share).to(null["ids"].device)
        return {name: torch.where(dropped, null[name], value) for name, value in condition.items()}
