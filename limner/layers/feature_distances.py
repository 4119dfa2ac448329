"""How far the features of two pictures are apart, layer by layer, as LPIPS measures it.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018
(arXiv:1801.03924); https://github.com/richzhang/PerceptualSimilarity.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

EPSILON = 1e-10


def feature_distance(
    first: Iterable[Tensor],
    second: Iterable[Tensor],
    weights: Iterable[Tensor],
    epsilon: float = EPSILON,
) -> Tensor:
    """Return the sum of `layer_distances` over the layers, float [B]: LPIPS."""
    return layer_distances(first, second, weights, epsilon).sum(dim=1)


def layer_distances(
    first: Iterable[Tensor],
    second: Iterable[Tensor],
    weights: Iterable[Tensor],
    epsilon: float = EPSILON,
) -> Tensor:
    """Return the weighted squared distances of unit vectors, averaged over places.

    Args:
        first: features of a layer each, float [B, C, h, w].
        second: the same of the other pictures.
        weights: of a layer's channels each, float [C].
        epsilon: added to a vector's length before it is made a unit vector.

    Returns:
        float [B, layers].
    """
    layers = [
        ((_unit(a, epsilon) - _unit(b, epsilon)).square() * weight.reshape(-1, 1, 1)).sum(dim=1)
        for a, b, weight in zip(first, second, weights, strict=True)
    ]
    return torch.stack([layer.mean(dim=(1, 2)) for layer in layers], dim=1)


def _unit(features: Tensor, epsilon: float) -> Tensor:
    return features / (features.norm(dim=1, keepdim=True) + epsilon)
