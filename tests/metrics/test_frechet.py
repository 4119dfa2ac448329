"""Fréchet distances against closed forms."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
import torch
from torch import Tensor

from limner.core.errors import CheckpointError, DataError, LimnerError
from limner.metrics.frechet import (
    Gaussian,
    GaussianSums,
    TooFewPictures,
    fit_gaussian,
    frechet_distance,
    spatial_features,
)


def rng() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def rows(count: int, width: int) -> Tensor:
    mixed = torch.randn(width, width, generator=rng())
    return torch.randn(count, width, generator=rng()) @ mixed


def diagonal(mean: float, *variances: float) -> Gaussian:
    values = torch.tensor(variances).double()
    return Gaussian(torch.full_like(values, mean), values.diag())


def test_gaussians_along_the_same_axes() -> None:
    first, second = diagonal(1.0, 4.0, 9.0, 0.0), diagonal(3.0, 1.0, 16.0, 0.0)
    assert frechet_distance(first, second) == pytest.approx(3 * 4 + (2 - 1) ** 2 + (3 - 4) ** 2)


def test_two_by_two_covariances_that_do_not_commute() -> None:
    a = torch.tensor([[2.0, 1.0], [1.0, 3.0]]).double()
    b = torch.tensor([[1.0, -0.5], [-0.5, 4.0]]).double()
    root = math.sqrt((a @ b).trace() + 2 * math.sqrt(a.det() * b.det()))
    zero = torch.zeros(2).double()
    wanted = float(a.trace() + b.trace()) - 2 * root
    assert frechet_distance(Gaussian(zero, a), Gaussian(zero, b)) == pytest.approx(wanted)


def test_a_shift_adds_its_square_for_every_feature() -> None:
    features = rows(200, 12)
    fitted = fit_gaussian(features)
    assert frechet_distance(fitted, fitted) < 1e-6
    shifted = fit_gaussian(features.double() + 0.25)
    assert frechet_distance(fitted, shifted) == pytest.approx(12 * 0.25**2)


@pytest.mark.filterwarnings("ignore::limner.metrics.frechet.TooFewPictures")
def test_singular_covariances_are_exact() -> None:
    """Rotated points of two and three dimensions among twenty: the closed form is known."""
    turn = torch.linalg.qr(torch.randn(20, 20, generator=rng()).double()).Q

    def turned(*variances: float) -> Gaussian:
        values = torch.zeros(20).double()
        values[: len(variances)] = torch.tensor(variances).double()
        return Gaussian(torch.zeros(20).double(), turn @ values.diag() @ turn.T, len(variances))

    assert frechet_distance(turned(4.0, 1.0), turned(1.0, 9.0, 2.0)) == pytest.approx(1 + 4 + 2)
    same = fit_gaussian(rows(7, 40))
    assert frechet_distance(same, same) < 1e-6
    constant = fit_gaussian(torch.ones(5, 4))
    assert frechet_distance(constant, fit_gaussian(torch.zeros(5, 4))) == pytest.approx(4)


@pytest.mark.parametrize("batch", [1, 7, 64, 200])
def test_batches_give_what_all_rows_give(batch: int) -> None:
    features = rows(200, 6) + 1e4
    sums = GaussianSums(6)
    for part in features.split(batch):
        sums.update(part)
    sums.update(features[:0])
    fitted = sums.compute()
    wanted = np.cov(features.double().numpy(), rowvar=False)
    assert fitted.count == 200
    np.testing.assert_allclose(fitted.mean, features.double().mean(dim=0), rtol=1e-12)
    np.testing.assert_allclose(fitted.covariance, wanted, rtol=1e-8)


def test_sums_go_on_after_a_break() -> None:
    features = rows(50, 3)
    before, after = GaussianSums(3), GaussianSums(3)
    before.update(features[:20])
    after.load_state_dict(before.state_dict())
    after.update(features[20:])
    torch.testing.assert_close(after.compute().covariance, fit_gaussian(features).covariance)
    assert int(before.count) == 20
    with pytest.raises(CheckpointError, match="GaussianSums"):
        GaussianSums(4).load_state_dict(before.state_dict())


def test_many_samples_come_near_the_closed_form() -> None:
    first = torch.randn(40_000, 4, generator=rng())
    second = 1.0 + 2 * torch.randn(40_000, 4, generator=rng().manual_seed(1))
    distance = frechet_distance(fit_gaussian(first), fit_gaussian(second))
    assert distance == pytest.approx(4 * (1 + 1), rel=0.02)


def test_few_pictures_are_warned_of_and_unknown_counts_are_not() -> None:
    few, many = fit_gaussian(rows(8, 8)), fit_gaussian(rows(9, 8))
    with pytest.warns(TooFewPictures, match=r"8 features from 8 pictures"):
        frechet_distance(few, many)
    unknown = Gaussian(few.mean, few.covariance)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        frechet_distance(many, unknown)


def test_spatial_features_are_the_first_channels_place_by_place() -> None:
    maps = torch.arange(2 * 3 * 2 * 2).reshape(2, 3, 2, 2)
    assert spatial_features(maps, 2)[0].tolist() == [0, 4, 1, 5, 2, 6, 3, 7]
    assert spatial_features(torch.zeros(1, 192, 17, 17)).shape == (1, 2023)


def test_bad_input_is_named() -> None:
    broken = rows(20, 4)
    broken[3, 1] = torch.nan
    with pytest.raises(DataError, match=r"features of 1 of 20 pictures are NaN.*row 3"):
        fit_gaussian(broken)
    with pytest.raises(DataError, match=r"\[B, 5\]|\[N, 5\]"):
        GaussianSums(5).update(rows(3, 4))
    with pytest.raises(DataError, match="1 pictures are too few: at least 2"):
        fit_gaussian(rows(1, 4))
    with pytest.raises(DataError, match="4 and 5 numbers"):
        frechet_distance(fit_gaussian(rows(9, 4)), fit_gaussian(rows(9, 5)))
    with pytest.raises(DataError, match=r"\[3\] and a covariance of shape \[2, 2\]"):
        Gaussian(torch.zeros(3), torch.eye(2))
    with pytest.raises(DataError, match="NaN"):
        Gaussian(torch.zeros(2), torch.full((2, 2), torch.nan))
    with pytest.raises(LimnerError, match="eigenvalue -4"):
        frechet_distance(diagonal(0.0, 4.0, -4.0), diagonal(0.0, 1.0, 1.0))
