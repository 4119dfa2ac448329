"""Captions as their words, each a place of the sequence: no encoder, no weights needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.conditions.captions import ABSENT, BEGIN, FIRST_PIECE, hashed, pieces_of, words_of
from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition


class WordCondition(nn.Module):
    """The whole caption at the first place, then a place a word.

    The vector of a word is the sum of those of its pieces (see `CaptionCondition`) over the root of
    their number; the whole caption is one piece. So a model learns at once what a caption it knows
    stands for, and of others as much as their words say.

    The condition is {"words": int64 [B, T, PIECES]}: rows of pieces, ABSENT where there are fewer;
    the first row begins with BEGIN. The null caption is the empty one.

    Args:
        length: T, places of the prefix; longer captions are cut.
        width: of the sequence.
        table: rows of the table of pieces.
    """

    by: tuple[str, ...] = ("prompt",)
    PIECES = 24

    def __init__(self, length: int, width: int, table: int = 4096) -> None:
        super().__init__()
        self.length = length
        self.pieces = nn.Embedding(FIRST_PIECE + table, width, padding_idx=ABSENT)

    def ask(self, request: Request) -> Condition:
        """Return the prompts' words; the empty caption where none is given.

        Raises:
            ConfigError: classes are given.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        return {"words": self._cut(request.prompts or [""] * request.count)}

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]; zeros where there is no word."""
        pieces = condition["words"].to(self.pieces.weight.device)
        here = (pieces != ABSENT).unsqueeze(-1).to(self.pieces.weight.dtype)
        summed: Tensor = (self.pieces(pieces) * here).sum(2)
        return summed / here.sum(2).clamp(min=1).sqrt()

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T]: which prefix places hold something."""
        return (condition["words"] != ABSENT).any(2).cpu()

    def null(self, condition: Condition) -> Condition:
        """Return the empty caption for every row."""
        words = torch.zeros_like(condition["words"])
        words[:, 0, 0] = BEGIN
        return {"words": words}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Empty a random share of the captions."""
        words = condition["words"]
        dropped = (torch.rand(len(words), 1, 1, generator=rng) < share).to(words.device)
        return {"words": torch.where(dropped, self.null(condition)["words"], words)}

    def _cut(self, captions: Sequence[str]) -> Tensor:
        table = self.pieces.num_embeddings - FIRST_PIECE
        rows = torch.zeros(len(captions), self.length, self.PIECES, dtype=torch.int64)
        rows[:, 0, 0] = BEGIN
        for row, caption in zip(rows, captions, strict=True):
            words = words_of(caption)
            if words:
                row[0, 1] = FIRST_PIECE + hashed(f"[{' '.join(words)}]", table)
            for place, word in enumerate(words[: self.length - 1], start=1):
                numbers = [FIRST_PIECE + hashed(piece, table) for piece in pieces_of(word)]
                numbers = numbers[: self.PIECES]
                row[place, : len(numbers)] = torch.tensor(numbers)
        return rows
