"""Binary spherical quantisation: signs of the channels of a unit vector.

Zhao et al., "Image and video tokenization with binary spherical quantization", arXiv:2406.07548;
https://github.com/zhaoyue-zephyrus/bsq-vit `transcoder/models/quantizer/bsq.py`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.tokenizers.quantizers.bits import LARGEST, all_signs, pack, signs, unpack
from limner.tokenizers.quantizers.gradients import straight_through
from limner.tokenizers.quantizers.quantizer import Quantized, Quantizer, wide


@dataclass(frozen=True)
class BSQConfig:
    """Shape and losses of a binary spherical quantiser.

    Args:
        kind: "bsq".
        bits: D, bits of an id.
        group: bits whose entropy is measured together; divides `bits`, and costs 2^group.
        entropy_by: "bit" measures every bit by itself (exact for sigmoid choices, cheap); "group"
            compares with all codes of a group.
        normalize: divide vectors by their length; False: they come as unit vectors.
        commitment: weight of the loss that draws vectors to their codes, summed over channels.
            Published weights were trained with 0.25; in short training it makes codes collapse.
        entropy: weight of both entropy terms together.
        certainty: weight, inside the entropy loss, of certain choices.
        diversity: weight, inside the entropy loss, of even use of all codes.
        sharpness: of the choices that the entropy loss looks at (an inverse temperature).
    """

    kind: Literal["bsq"] = "bsq"
    bits: int = 18
    group: int = 1
    entropy_by: Literal["bit", "group"] = "bit"
    normalize: bool = True
    commitment: float = 0.0
    entropy: float = 1.0
    certainty: float = 1.0
    diversity: float = 1.0
    sharpness: float = 1.0

    def __post_init__(self) -> None:
        check(0 < self.bits <= LARGEST, "bits", self.bits, f"from 1 to {LARGEST}")
        fits = self.group > 0 and self.bits % self.group == 0
        check(fits, "group", self.group, f"a divisor of {self.bits} bits")
        known = ("bit", "group")
        check(self.entropy_by in known, "entropy_by", self.entropy_by, "'bit' or 'group'")
        fits = self.entropy_by == "bit" or self.group <= 20
        check(fits, "group", self.group, "20 at most where entropies are taken by group")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")
        check(self.sharpness > 0, "sharpness", self.sharpness, "above 0")


@dataclass(frozen=True)
class Entropies:
    """What the entropy loss looks at.

    Args:
        single: float [], how undecided one vector's choices are, summed over groups or bits.
        mean: float [], how evenly codes are used, summed over groups or bits.
        chances: float [groups, 2^group] or [bits, 2], of each code, averaged over vectors.
    """

    single: Tensor
    mean: Tensor
    chances: Tensor


class BSQ(Quantizer):
    """Signs of unit vectors, over the root of D; channel 0 is the most significant bit.

    A channel of exactly 0 counts as negative.

    Args:
        config: see `BSQConfig`.
    """

    def __init__(self, config: BSQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = 2**config.bits
        self.width = config.bits
        self.scale = config.bits**-0.5

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., D]."""
        config, unit = self.config, self.unit(vectors)
        codes = self.scale * signs(unit > 0, unit)
        losses = {}
        if config.commitment:
            pull = (codes - unit).square().sum(dim=-1).mean()
            losses["commitment"] = config.commitment * pull
        if config.entropy:
            entropies = self.entropies(unit)
            balance = config.certainty * entropies.single - config.diversity * entropies.mean
            losses["entropy"] = config.entropy * balance / config.sharpness
        return Quantized(straight_through(unit, codes), pack(unit > 0), losses)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., D], int64 [...]."""
        return pack(vectors > 0)

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the values of ids [...], float [..., D]."""
        return self.scale * signs(unpack(ids, self.width))

    def group_ids(self, vectors: Tensor) -> Tensor:
        """Return one id for each group of bits of vectors [..., D], int64 [..., groups]."""
        return pack((vectors > 0).unflatten(-1, (-1, self.config.group)))

    def unit(self, vectors: Tensor) -> Tensor:
        """Return vectors [..., D] on the unit sphere."""
        vectors = wide(vectors)
        return functional.normalize(vectors, dim=-1) if self.config.normalize else vectors

    def entropies(self, unit: Tensor) -> Entropies:
        """Return the entropies of the choices of unit vectors [..., D]."""
        flat, sharp = unit.flatten(0, -2), self.config.sharpness
        if self.config.entropy_by == "bit":
            negative = torch.sigmoid(-4 * sharp * self.scale * flat)
            chances = torch.stack([negative, 1 - negative], dim=-1)  # [n, bits, 2]
        else:
            groups = flat.unflatten(-1, (-1, self.config.group))
            codes = self.scale * all_signs(self.config.group, flat)
            chances = (2 * sharp * groups @ codes.T).softmax(dim=-1)  # [n, groups, 2^group]
        mean = chances.mean(dim=0)
        return Entropies(_entropy(chances).sum(dim=-1).mean(), _entropy(mean).sum(), mean)


def _entropy(chances: Tensor) -> Tensor:
    return -(chances * torch.log(chances + 1e-8)).sum(dim=-1)
