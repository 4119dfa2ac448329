"""Kernel distance between two sets of feature vectors (KID): unbiased at any number of pictures.

Bińkowski et al., "Demystifying MMD GANs", ICLR 2018 (arXiv:1801.01401); torch-fidelity
`metric_kid.py`. Papers often print it times 1000.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check
from limner.metrics.draws import SEED, subset_pairs
from limner.metrics.features import check_features, check_same_width
from limner.metrics.scores import Score, score_of


@dataclass(frozen=True)
class PolynomialKernel:
    """(gamma x.y + offset)^degree.

    Args:
        degree: of the polynomial.
        gamma: None: 1 / D for vectors of D numbers.
        offset: of the product.
    """

    degree: int = 3
    gamma: float | None = None
    offset: float = 1.0

    def __post_init__(self) -> None:
        check(self.degree > 0, "degree", self.degree, "at least 1")
        check(self.gamma is None or self.gamma > 0, "gamma", self.gamma, "above 0, or None")

    def __call__(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the kernel of all pairs of float64 vectors [m, D] and [n, D], [m, n]."""
        gamma = 1 / first.shape[1] if self.gamma is None else self.gamma
        return (gamma * first @ second.T + self.offset) ** self.degree


KERNEL = PolynomialKernel()
"""The published one."""


def squared_mmd(first: Tensor, second: Tensor, kernel: PolynomialKernel = KERNEL) -> Tensor:
    """Return the unbiased squared maximum mean discrepancy of two sets, float64 [].

    It is 0 on average for samples of one distribution, so it may be negative.

    Args:
        first: float [m, D], two rows or more.
        second: float [m, D].
        kernel: of two vectors.

    Raises:
        DataError: the sets differ in width, are too small, or not finite.
        ConfigError: they differ in size.
    """
    check_same_width(first, second)
    for features in (first, second):
        check_features(features, least=2)
    m = len(first)
    check(len(second) == m, "second", len(second), f"as many vectors as the first set has, {m}")
    x, y = first.detach().double(), second.detach().double()
    own, other = kernel(x, x), kernel(y, y)
    within = own.sum() - own.trace() + other.sum() - other.trace()
    return within / (m * (m - 1)) - 2 * kernel(x, y).mean()


def kernel_distances(
    first: Tensor,
    second: Tensor,
    subsets: int = 100,
    size: int = 1000,
    seed: int = SEED,
    kernel: PolynomialKernel = KERNEL,
) -> Tensor:
    """Return the distances of random subsets of two sets, float64 [subsets]; KID is their mean.

    Args:
        first: float features [N, D].
        second: float features [M, D].
        subsets: how many pairs.
        size: vectors in a subset.
        seed: of the choice; each pair's subset of the first set is drawn first.
        kernel: of two vectors.

    Raises:
        DataError: the sets differ in width, or are not finite.
        ConfigError: a set is smaller than a subset.
    """
    check_same_width(first, second)
    for features in (first, second):
        check_features(features)
    pairs = subset_pairs(len(first), len(second), subsets, size, seed)
    return torch.stack([squared_mmd(first[a], second[b], kernel) for a, b in zip(*pairs)])


def kernel_distance(
    first: Tensor, second: Tensor, subsets: int = 100, size: int = 1000, seed: int = SEED
) -> Score:
    """Return KID and its deviation over subsets; see `kernel_distances`."""
    return score_of(kernel_distances(first, second, subsets, size, seed))
