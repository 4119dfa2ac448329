"""Lookup-free quantisation: the sign of every channel is a bit.

Yu et al., "Language model beats diffusion: tokenizer is key to visual generation",
arXiv:2310.05737; as in `LFQ` of vector-quantize-pytorch 1.32.0.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.tokenizers.quantizers.bits import LARGEST, all_signs, pack, signs, unpack
from limner.tokenizers.quantizers.codebook import commitment_loss
from limner.tokenizers.quantizers.gradients import straight_through
from limner.tokenizers.quantizers.quantizer import Quantized, Quantizer, wide


@dataclass(frozen=True)
class LFQConfig:
    """Shape and losses of a lookup-free quantiser.

    Args:
        kind: "lfq".
        bits: of an id.
        groups: ids a vector; D is bits x groups.
        spherical: vectors and codes have length 1 in every group.
        commitment: weight of the loss that draws vectors to their codes.
        entropy: weight of the entropy loss, whose cost grows with 2^bits; 0 leaves it out.
        diversity: weight, inside the entropy loss, of even use of all codes.
        sharpness: of the choices that the entropy loss looks at (an inverse temperature).
    """

    kind: Literal["lfq"] = "lfq"
    bits: int = 10
    groups: int = 1
    spherical: bool = False
    commitment: float = 0.25
    entropy: float = 0.1
    diversity: float = 1.0
    sharpness: float = 100.0

    def __post_init__(self) -> None:
        check(0 < self.bits <= LARGEST, "bits", self.bits, f"from 1 to {LARGEST}")
        check(self.groups > 0, "groups", self.groups, "at least 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")
        check(self.entropy >= 0, "entropy", self.entropy, "0 or more")
        fits = self.entropy == 0 or self.bits <= 20
        check(fits, "bits", self.bits, "20 at most with an entropy loss")
        check(self.sharpness > 0, "sharpness", self.sharpness, "above 0")


class LFQ(Quantizer):
    """Signs of channels; channel 0 is the most significant bit, and 0 counts as negative.

    Args:
        config: see `LFQConfig`.
    """

    def __init__(self, config: LFQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = 2**config.bits
        self.width = config.bits * config.groups
        self.depth = config.groups
        self.scale = config.bits**-0.5 if config.spherical else 1.0

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., D]."""
        config, grouped = self.config, self.grouped(vectors)
        codes = self.scale * signs(grouped > 0, grouped)
        losses = {}
        if config.commitment:
            losses["commitment"] = config.commitment * commitment_loss(grouped, codes)
        if config.entropy:
            single, mean = self.entropies(vectors)
            losses["entropy"] = config.entropy * (single - config.diversity * mean)
        values = straight_through(grouped, codes).flatten(-2)
        return Quantized(values, self._ids(grouped), losses)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., D]."""
        return self._ids(self.grouped(vectors))

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the values of ids, float [..., D]."""
        grouped = ids if self.depth > 1 else ids.unsqueeze(-1)
        return self.scale * signs(unpack(grouped, self.config.bits)).flatten(-2)

    def grouped(self, vectors: Tensor) -> Tensor:
        """Return vectors [..., D] as they are compared, float [..., groups, bits]."""
        grouped = wide(vectors).unflatten(-1, (self.depth, self.config.bits))
        return functional.normalize(grouped, dim=-1) if self.config.spherical else grouped

    def entropies(self, vectors: Tensor) -> tuple[Tensor, Tensor]:
        """Return how undecided a choice is, and how evenly all codes are used, float [] each.

        Holds [N, groups, V] numbers at once.
        """
        grouped = self.grouped(vectors).flatten(0, -3)
        codes = self.scale * all_signs(self.config.bits, grouped)
        chances = (2 * self.config.sharpness * grouped @ codes.T).softmax(dim=-1)
        return _entropy(chances).mean(), _entropy(chances.mean(dim=0)).mean()

    def _ids(self, grouped: Tensor) -> Tensor:
        ids = pack(grouped > 0)
        return ids if self.depth > 1 else ids.squeeze(-1)


def _entropy(chances: Tensor) -> Tensor:
    return -(chances * chances.clamp(min=1e-5).log()).sum(dim=-1)
