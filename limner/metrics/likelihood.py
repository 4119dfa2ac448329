"""Bits per dimension: how many bits a model needs for each number of a picture."""

from __future__ import annotations

import math

from torch import Tensor

from limner.core.errors import check


def bits_per_dimension(nats: Tensor, dimensions: int, levels: float = 1.0) -> Tensor:
    """Return the bits per dimension of every picture, float64 [B].

    Args:
        nats: negative log-likelihoods of a picture's parts (tokens, pixels), float [B, ...].
        dimensions: numbers a picture consists of, C x H x W.
        levels: grey levels in a unit of the values that a density is of: 127.5 for densities of
            pixels in [-1, 1], 256 for those of dequantised pixels in [0, 1], 1 for probabilities.
    """
    check(dimensions > 0, "dimensions", dimensions, "at least 1")
    check(levels > 0, "levels", levels, "above 0")
    bits: Tensor = nats.double().reshape(len(nats), -1).sum(dim=1) / math.log(2)
    return bits / dimensions + math.log2(levels)
