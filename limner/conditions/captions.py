"""Captions through a small text encoder that is trained with the generator: no weights needed."""

from __future__ import annotations

import re
import zlib
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition

ABSENT, BEGIN, FIRST_PIECE = 0, 1, 2
SKIPPED = frozenset(("a", "an", "the", "of", "with", "and", "in"))
_WORD = re.compile(r"\w+")


class SpelledCondition(nn.Module):
    """Base: captions as words, a word as itself and its letters three to five at a time.

    These pieces are hashed into one table (Bojanowski et al., arXiv:1607.04606). So no vocabulary
    is needed, and words that were never learned resemble those that they share letters with.

    The condition is {"words": int64 [B, rows, PIECES]}: rows of pieces, ABSENT where there are
    fewer; the first row begins with BEGIN. The null caption is the empty one. Case and little words
    such as articles do not matter.

    Args:
        rows: the first, and one a word; longer captions are cut.
        width: of the vectors.
        table: rows of the table of pieces.
    """

    by: tuple[str, ...] = ("prompt",)
    PIECES = 24

    def __init__(self, rows: int, width: int, table: int) -> None:
        super().__init__()
        self.rows = rows
        self.pieces = nn.Embedding(FIRST_PIECE + table, width, padding_idx=ABSENT)

    def ask(self, request: Request) -> Condition:
        """Return the prompts' words; the empty caption where none is given.

        Raises:
            ConfigError: classes are given.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        return {"words": self.cut(request.prompts or [""] * request.count)}

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

    def vectors(self, condition: Condition) -> Tensor:
        """Return the sum of each row's pieces over the root of their number, [B, rows, width]."""
        pieces = condition["words"].to(self.pieces.weight.device)
        here = (pieces != ABSENT).unsqueeze(-1).to(self.pieces.weight.dtype)
        summed: Tensor = (self.pieces(pieces) * here).sum(2)  # the row of ABSENT need not be zero
        return summed / here.sum(2).clamp(min=1).sqrt()

    def cut(self, captions: Sequence[str]) -> Tensor:
        """Return the pieces of captions, int64 [B, rows, PIECES]."""
        cut = torch.zeros(len(captions), self.rows, self.PIECES, dtype=torch.int64)
        cut[:, 0, 0] = BEGIN
        for rows, caption in zip(cut, captions, strict=True):
            words = words_of(caption)
            for row, word in zip(rows[1:], words, strict=False):
                numbers = [self.number(piece) for piece in pieces_of(word)][: self.PIECES]
                row[: len(numbers)] = torch.tensor(numbers)
        return cut

    def number(self, piece: str) -> int:
        """Return a piece's row of the table, which depends on the piece alone."""
        hashed = zlib.crc32(piece.encode("utf-8", "surrogateescape"))
        return FIRST_PIECE + hashed % (self.pieces.num_embeddings - FIRST_PIECE)


class CaptionCondition(SpelledCondition):
    """The words of a caption, encoded by a few transformer layers and read by learned queries.

    Args:
        length: T, places of the prefix.
        width: of the sequence.
        heads: of each attention.
        depth: layers over the words.
        limit: longest caption, in words; longer ones are cut.
        table: rows of the table of pieces.
    """

    def __init__(
        self,
        length: int,
        width: int,
        heads: int,
        depth: int = 1,
        limit: int = 12,
        table: int = 1024,
    ) -> None:
        super().__init__(limit + 1, width, table)
        self.length = length
        self.limit = limit
        self.position = nn.Parameter(torch.randn(limit + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(length, width) * 0.02)
        self.pool = nn.MultiheadAttention(width, heads, batch_first=True)

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]."""
        absent = (condition["words"] == ABSENT).all(2).to(self.queries.device)
        words = self.vectors(condition) + self.position
        read = self.encoder(words, src_key_padding_mask=absent)
        queries = self.queries.expand(len(absent), -1, -1)
        pooled: Tensor = self.pool(queries, read, read, absent, need_weights=False)[0]
        return pooled

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T]: which prefix places hold something (all of them)."""
        return torch.ones(len(condition["words"]), self.length, dtype=torch.bool)


def words_of(caption: str) -> list[str]:
    """Return the words that count, in order: lower case, little words only if alone."""
    words: list[str] = _WORD.findall(caption.casefold())
    return [word for word in words if word not in SKIPPED] or words


def pieces_of(word: str) -> list[str]:
    """Return a word and its runs of three, four and five letters, its ends marked."""
    marked = f"<{word}>"
    runs = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    return list(dict.fromkeys([marked, *runs]))
