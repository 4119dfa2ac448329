"""What every quantiser offers, whatever its codes are.

`Codebook` (learned codes, Euclidean or cosine), `ResidualVQ`, `FSQ`, `LFQ` and `BSQ` share this
interface, so a tokenizer takes any of them. What keeps learned codes alive in training (k-means at
the start, moving averages, revival) is in `limner.tokenizers.quantizers.upkeep`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from limner.tokenizers.quantizers.codebook import Codebook


@dataclass(frozen=True)
class Quantized:
    """What a quantiser made of vectors.

    Args:
        values: float, shape of the input; the codes, with the input's gradient (straight through).
        ids: int64, one a vector, or C a vector; see `Quantizer.depth`.
        losses: name -> float [], each already weighted; to be added up.
        vectors: what the ids stand for, float [*ids.shape, D]; None: the input itself.
    """

    values: Tensor
    ids: Tensor
    losses: dict[str, Tensor]
    vectors: Tensor | None = None

    @property
    def loss(self) -> Tensor:
        """The sum of all losses, float []."""
        return sum(self.losses.values(), start=self.values.new_zeros(()))


@dataclass(frozen=True)
class Assignment:
    """Which vectors fell to which codes of a learned table.

    Args:
        codebook: the table.
        vectors: float [n, D], as the table compares them.
        ids: int64 [n].
    """

    codebook: Codebook
    vectors: Tensor
    ids: Tensor


class Quantizer(nn.Module):
    """Base of all quantisers. A subclass writes `quantize`, `nearest` and `lookup`.

    Attributes:
        codebook_size: V, values that an id takes.
        width: D of a vector.
        depth: C, ids a vector. Ids have the shape [...] where C is 1, [..., C] otherwise.
    """

    codebook_size: int
    width: int
    depth: int = 1

    def forward(self, vectors: Tensor, mask: Tensor | None = None) -> Quantized:
        """Quantise vectors [..., D].

        Args:
            mask: bool [...]; where it is False a vector counts nowhere, its id is -1 and its
                value 0.
        """
        if mask is None:
            return self.quantize(vectors)
        kept = self.quantize(vectors[mask])
        values = kept.values.new_zeros(vectors.shape)
        values[mask] = kept.values
        ids = kept.ids.new_full((*mask.shape, *kept.ids.shape[1:]), -1)
        ids[mask] = kept.ids
        return Quantized(values, ids, kept.losses)

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., D] for training."""
        raise NotImplementedError

    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., D], without gradients."""
        raise NotImplementedError

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the values of ids, float [..., D]."""
        raise NotImplementedError

    def codebooks(self) -> Sequence[Codebook]:
        """Return the learned tables; none for quantisers whose codes are fixed."""
        return ()

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return what fell to each learned table, in the order of `codebooks`.

        Args:
            vectors: float [..., D].
            ids: what `forward` made of them.
        """
        return ()


def wide(vectors: Tensor) -> Tensor:
    """Return vectors in float32 at least: half precision changes ids near ties."""
    return vectors.to(torch.promote_types(vectors.dtype, torch.float32))
