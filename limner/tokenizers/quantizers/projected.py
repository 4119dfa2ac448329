"""A quantiser between two linear maps, for vectors of another width than its codes."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Assignment, Quantized, Quantizer


class Projected(Quantizer):
    """Projects vectors to the codes' width, quantises them and projects back.

    Nothing is projected where both widths are the same.

    Args:
        inner: the quantiser.
        width: of the vectors.
    """

    def __init__(self, inner: Quantizer, width: int) -> None:
        super().__init__()
        check(width > 0, "width", width, "at least 1")
        self.inner = inner
        self.codebook_size = inner.codebook_size
        self.depth = inner.depth
        self.width = width
        projects = width != inner.width
        self.into = nn.Linear(width, inner.width) if projects else nn.Identity()
        self.out = nn.Linear(inner.width, width) if projects else nn.Identity()

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., width]."""
        quantized = self.inner.quantize(self.into(vectors))
        return Quantized(self.out(quantized.values), quantized.ids, quantized.losses)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., width]."""
        return self.inner.nearest(self.into(vectors))

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the values of ids, float [..., width]."""
        values: Tensor = self.out(self.inner.lookup(ids))
        return values

    def codebooks(self) -> Sequence[Codebook]:
        """Return the inner quantiser's tables."""
        return self.inner.codebooks()

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return what fell to the inner quantiser's tables."""
        return self.inner.assignments(self.into(vectors), ids)
