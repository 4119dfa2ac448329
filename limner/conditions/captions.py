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


class CaptionCondition(nn.Module):
    """The words of a caption, encoded by a few transformer layers and read by learned queries.

    A word is the mean of vectors of its pieces: itself and its letters three, four and five at a
    time, hashed into one table (Bojanowski et al., arXiv:1607.04606). So no vocabulary is needed,
    and words that were never learned resemble those that they share letters with.

    The condition is {"words": int64 [B, limit + 1, PIECES]}: rows of pieces, ABSENT where there are
    fewer; the first row is BEGIN. The null caption is the empty one. Case and little words such as
    articles do not matter.

    Args:
        length: T, places of the prefix.
        width: of the sequence.
        heads: of each attention.
        depth: layers over the words.
        limit: longest caption, in words; longer ones are cut.
        table: rows of the table of pieces.
    """

    by: tuple[str, ...] = ("prompt",)
    PIECES = 24

    def __init__(
        self,
        length: int,
        width: int,
        heads: int,
        depth: int = 1,
        limit: int = 12,
        table: int = 1024,
    ) -> None:
        super().__init__()
        self.length = length
        self.limit = limit
        self.pieces = nn.Embedding(FIRST_PIECE + table, width, padding_idx=ABSENT)
        self.position = nn.Parameter(torch.randn(limit + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(length, width) * 0.02)
        self.pool = nn.MultiheadAttention(width, heads, batch_first=True)

    def ask(self, request: Request) -> Condition:
        """Return the prompts' words; the empty caption where none is given.

        Raises:
            ConfigError: classes are given.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        return {"words": self._cut(request.prompts or [""] * request.count)}

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]."""
        pieces = condition["words"].to(self.queries.device)
        here = (pieces != ABSENT).unsqueeze(-1).to(self.queries.dtype)
        vectors = self.pieces(pieces) * here  # the row of ABSENT need not be zero
        words = vectors.sum(2) / here.sum(2).clamp(min=1).sqrt()
        absent = (pieces == ABSENT).all(2)
        read = self.encoder(words + self.position, src_key_padding_mask=absent)
        queries = self.queries.expand(len(pieces), -1, -1)
        pooled: Tensor = self.pool(queries, read, read, absent, need_weights=False)[0]
        return pooled

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T]: which prefix places hold something (all of them)."""
        return torch.ones(len(condition["words"]), self.length, dtype=torch.bool)

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
        words = torch.zeros(len(captions), self.limit + 1, self.PIECES, dtype=torch.int64)
        words[:, 0, 0] = BEGIN
        for row, caption in zip(words, captions, strict=True):
            for place, word in enumerate(words_of(caption)[: self.limit], start=1):
                numbers = [FIRST_PIECE + hashed(piece, table) for piece in pieces_of(word)]
                numbers = numbers[: self.PIECES]
                row[place, : len(numbers)] = torch.tensor(numbers)
        return words


def words_of(caption: str) -> list[str]:
    """Return the words that count, in order: lower case, little words only if alone."""
    words: list[str] = _WORD.findall(caption.casefold())
    return [word for word in words if word not in SKIPPED] or words


def pieces_of(word: str) -> list[str]:
    """Return a word and its runs of three, four and five letters, its ends marked."""
    marked = f"<{word}>"
    runs = [marked[i : i + n] for n in (3, 4, 5) for i in range(len(marked) - n + 1)]
    return list(dict.fromkeys([marked, *runs]))


def hashed(piece: str, rows: int) -> int:
    """Return a number below `rows` that depends on a piece alone."""
    return zlib.crc32(piece.encode("utf-8", "surrogateescape")) % rows
