"""Captions through a small text encoder that is trained with the generator: no weights needed."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition

PADDING, BEGIN, FIRST_BYTE = 0, 1, 2


class CaptionCondition(nn.Module):
    """The bytes of a caption, encoded by a few transformer layers and read by learned queries.

    The condition is {"bytes": int64 [B, limit + 1]}: BEGIN, then byte + FIRST_BYTE, then PADDING.
    The null caption is the empty one.

    Args:
        length: T, places of the prefix.
        width: of the sequence.
        heads: of each attention.
        depth: layers over the bytes.
        limit: longest caption, in UTF-8 bytes; longer ones are cut.
    """

    by = "prompt"

    def __init__(
        self, length: int, width: int, heads: int, depth: int = 2, limit: int = 64
    ) -> None:
        super().__init__()
        self.length = length
        self.limit = limit
        self.bytes = nn.Embedding(FIRST_BYTE + 256, width, padding_idx=PADDING)
        self.position = nn.Parameter(torch.randn(limit + 1, width) * 0.02)
        layer = nn.TransformerEncoderLayer(
            width, heads, 4 * width, 0.0, "gelu", batch_first=True, norm_first=True
        )
        self.encoder = nn.TransformerEncoder(layer, depth, enable_nested_tensor=False)
        self.queries = nn.Parameter(torch.randn(length, width) * 0.02)
        self.pool = nn.MultiheadAttention(width, heads, batch_first=True)

    def ask(self, request: Request) -> Condition:
        """Return the prompts' bytes; the empty caption where none is given.

        Raises:
            ConfigError: classes are given.
        """
        if request.labels is not None:
            raise ConfigError("classes are not accepted: this model is asked by prompts")
        return {"bytes": self._spelled(request.prompts or [""] * request.count)}

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, T, width]."""
        text = condition["bytes"].to(self.queries.device)
        absent = text == PADDING
        read = self.encoder(self.bytes(text) + self.position, src_key_padding_mask=absent)
        queries = self.queries.expand(len(text), -1, -1)
        pooled: Tensor = self.pool(queries, read, read, absent, need_weights=False)[0]
        return pooled

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, T]: which prefix places hold something (all of them)."""
        return torch.ones(len(condition["bytes"]), self.length, dtype=torch.bool)

    def null(self, condition: Condition) -> Condition:
        """Return the empty caption for every row."""
        text = torch.zeros_like(condition["bytes"])
        text[:, 0] = BEGIN
        return {"bytes": text}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Empty a random share of the captions."""
        text = condition["bytes"]
        dropped = (torch.rand(len(text), 1, generator=rng) < share).to(text.device)
        return {"bytes": torch.where(dropped, self.null(condition)["bytes"], text)}

    def _spelled(self, captions: Sequence[str]) -> Tensor:
        text = torch.zeros(len(captions), self.limit + 1, dtype=torch.int64)
        text[:, 0] = BEGIN
        for row, caption in zip(text, captions, strict=True):
            spelled = caption.strip().casefold().encode()[: self.limit]
            row[1 : len(spelled) + 1] = torch.tensor(list(spelled), dtype=torch.int64) + FIRST_BYTE
        return text
