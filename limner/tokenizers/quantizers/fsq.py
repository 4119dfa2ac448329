"""Finite scalar quantisation: every channel is bounded and rounded to a few levels.

Mentzer et al., "Finite scalar quantization: VQ-VAE made simple", arXiv:2309.15505; as in `FSQ` of
vector-quantize-pytorch 1.32.0.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from limner.core.errors import check
from limner.tokenizers.quantizers.gradients import straight_through
from limner.tokenizers.quantizers.quantizer import Quantized, Quantizer, wide

_MARGIN = 1e-3  # by which the bound exceeds the outermost levels (or stays inside of them)


@dataclass(frozen=True)
class FSQConfig:
    """Levels of a finite scalar quantiser.

    Usual sets: (8, 6, 5) for about 2^8 codes, (8, 5, 5, 5) for 2^10, (7, 5, 5, 5, 5) for 2^12,
    (8, 8, 8, 6, 5) for 2^14, (8, 8, 8, 5, 5, 5) for 2^16.

    Args:
        kind: "fsq".
        levels: of each channel; there are D.
        symmetric: levels lie evenly about 0 also where their number is even.
        inner: the bound lies inside of the outermost levels, and is shifted as in the first
            published code: by a tangent where it should be an inverse hyperbolic one (NBP).
    """

    kind: Literal["fsq"] = "fsq"
    levels: tuple[int, ...] = (8, 5, 5, 5)
    symmetric: bool = False
    inner: bool = False

    def __post_init__(self) -> None:
        fits = len(self.levels) > 0 and min(self.levels) > 1
        check(fits, "levels", self.levels, "one or more numbers of 2 or more")
        fits = math.prod(self.levels) < 2**62
        check(fits, "levels", self.levels, "numbers whose product is below 2^62")
        check(not (self.symmetric and self.inner), "inner", self.inner, "False where symmetric")


class FSQ(Quantizer):
    """Rounded channels in -1 .. 1; channel 0 varies fastest in the ids.

    Args:
        config: see `FSQConfig`.
    """

    def __init__(self, config: FSQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = math.prod(config.levels)
        self.width = len(config.levels)

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., D]; there are no losses."""
        values = self._values(vectors)
        return Quantized(values, self._pack(self._level_of(values.detach())), {})

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., D], int64 [...]."""
        return self._pack(self._level_of(self._values(vectors)))

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the values of ids [...], float [..., D]."""
        chosen, levels = self.level_ids(ids), self._levels(ids.device)
        if self.config.symmetric:
            return 2 * chosen / (levels - 1) - 1
        return (chosen - levels // 2) / (levels // 2)

    def level_ids(self, ids: Tensor) -> Tensor:
        """Return the level of each channel of ids [...], int64 [..., D]."""
        return ids.unsqueeze(-1) // self._strides(ids.device) % self._levels(ids.device)

    def _values(self, vectors: Tensor) -> Tensor:
        """Return values [..., D], with a straight-through gradient of the rounding alone."""
        levels = self._levels(vectors.device)
        if self.config.symmetric:
            place = (levels - 1) * (wide(vectors).tanh() + 1) / 2
            return 2 * straight_through(place, (place + 0.5).floor()) / (levels - 1) - 1
        margin = -_MARGIN if self.config.inner else _MARGIN
        reach = (levels - 1) * (1 + margin) / 2
        offset = torch.where(levels % 2 == 0, 0.5, 0.0)
        shift = (offset / reach).tan() if self.config.inner else (offset / reach).atanh()
        bounded = (wide(vectors) + shift).tanh() * reach - offset
        return straight_through(bounded, bounded.round()) / (levels // 2)

    def _level_of(self, values: Tensor) -> Tensor:
        levels = self._levels(values.device)
        if self.config.symmetric:
            return ((values + 1) * (levels - 1) / 2).round().long()
        return (values * (levels // 2)).round().long() + levels // 2

    def _pack(self, chosen: Tensor) -> Tensor:
        return (chosen * self._strides(chosen.device)).sum(dim=-1)

    def _levels(self, device: torch.device) -> Tensor:
        return torch.tensor(self.config.levels, device=device)

    def _strides(self, device: torch.device) -> Tensor:
        strides = [math.prod(self.config.levels[:channel]) for channel in range(self.width)]
        return torch.tensor(strides, device=device)
