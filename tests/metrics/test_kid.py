"""The kernel distance against its definition, and near 0 where it must be."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError, DataError
from limner.metrics.draws import permutation, subset_pairs
from limner.metrics.kid import PolynomialKernel, kernel_distance, kernel_distances, squared_mmd


def rows(count: int, width: int = 4, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def test_the_definition_pair_by_pair() -> None:
    x, y = rows(5), 1 + rows(5, seed=1)
    kernel = PolynomialKernel(degree=2, gamma=0.5, offset=2.0)

    def k(a: Tensor, b: Tensor) -> float:
        return float(0.5 * a.double() @ b.double() + 2) ** 2

    pairs = [(i, j) for i in range(5) for j in range(5)]
    within = sum(k(x[i], x[j]) + k(y[i], y[j]) for i, j in pairs if i != j) / 20
    wanted = within - 2 * sum(k(x[i], y[j]) for i, j in pairs) / 25
    assert float(squared_mmd(x, y, kernel)) == pytest.approx(wanted)


def test_halves_of_one_set_are_at_zero_within_the_error() -> None:
    """Unbiased: over independent pairs the mean is 0 within a few of its standard errors, and
    about half of the distances are negative."""
    distances = torch.stack([squared_mmd(*rows(60, seed=seed).chunk(2)) for seed in range(200)])
    error = distances.std() / 200**0.5
    assert distances.mean().abs() < 3 * error
    assert 0.2 < (distances < 0).double().mean() < 0.9


def test_distances_grow_with_the_difference() -> None:
    near = kernel_distance(rows(300), 0.3 + rows(300, seed=1), subsets=20, size=100)
    far = kernel_distance(rows(300), 1 + rows(300, seed=1), subsets=20, size=100)
    assert 0 < near.mean < far.mean and near.deviation > 0


def test_subsets_follow_from_the_seed_alone() -> None:
    first, second = subset_pairs(30, 20, subsets=3, size=10)
    again, _ = subset_pairs(30, 20, subsets=3, size=10)
    other, _ = subset_pairs(30, 20, subsets=3, size=10, seed=1)
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert all(len(set(row)) == 10 for row in [*first.tolist(), *second.tolist()])
    assert first.max() < 30 and second.max() < 20
    features = rows(30), rows(20, seed=1)
    wanted = squared_mmd(features[0][first[1]], features[1][second[1]])
    assert torch.equal(kernel_distances(*features, 3, 10)[1], wanted)
    assert sorted(permutation(50).tolist()) == list(range(50))


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match=r"size=1000 .* 1 to 20"):
        kernel_distance(rows(30), rows(20))
    with pytest.raises(DataError, match="4 and 5 numbers"):
        kernel_distance(rows(30), rows(30, 5), size=10)
    with pytest.raises(DataError, match="NaN"):
        kernel_distance(rows(30), rows(30) * torch.nan, size=10)
    with pytest.raises(ConfigError, match="degree=0"):
        PolynomialKernel(degree=0)
