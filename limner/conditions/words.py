"""Captions as their words, each a place of the sequence: no encoder, no weights needed."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from limner.conditions.captions import ABSENT, SpelledCondition, words_of
from limner.core.row import Condition


class WordCondition(SpelledCondition):
    """The whole caption at the first place, as one piece, then a place a word.

    So a model learns at once what a caption it knows stands for, and of others as much as their
    words say.

    Args:
        length: T, places of the prefix; longer captions are cut.
        width: of the sequence.
        table: rows of the table of pieces.
    """

    def __init__(self, length: int, width: int, table: int = 4096) -> None:
        super().__init__(length, width, table)
        self.length = length

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]; zeros where there is no word."""
        return self.vectors(condition)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T]: which prefix places hold something."""
        return (condition["words"] != ABSENT).any(2).cpu()

    def cut(self, captions: Sequence[str]) -> Tensor:
        """Return the pieces of captions and of their words, int64 [B, T, PIECES]."""
        cut = super().cut(captions)
        for rows, caption in zip(cut, captions, strict=True):
            words = words_of(caption)
            if words:
                rows[0, 1] = self.number(f"[{' '.join(words)}]")
        return cut
