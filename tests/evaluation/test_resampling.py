"""Resampled numbers are those of the metrics; intervals cover as often as they say."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError, DataError
from limner.evaluation.resampling import Bootstrap, resampled_frechet, resampled_kernel
from limner.metrics.frechet import fit_gaussian, frechet_distance
from limner.metrics.kid import squared_mmd


def rows(count: int, width: int, seed: int, scale: float = 1.0) -> Tensor:
    rng = torch.Generator().manual_seed(seed)
    return scale * torch.randn(count, width, generator=rng) + 0.1


@pytest.mark.parametrize("count", [8, 60])  # fewer pictures than features, and more
def test_every_resample_has_the_distance_of_its_pictures(count: int) -> None:
    real, made = fit_gaussian(rows(90, 12, 0)), rows(count, 12, 1, 1.3)
    draws = Bootstrap(20).draws(count)
    found = resampled_frechet(real, made, draws)
    with pytest.warns(UserWarning) if count < 12 else torch.no_grad():
        expected = [frechet_distance(real, fit_gaussian(made[index])) for index in draws]
    assert found.tolist() == pytest.approx(expected, rel=1e-6)


def test_the_kernel_distance_counts_every_pair_once() -> None:
    real, made = rows(40, 6, 0), rows(40, 6, 1, 1.2)
    draws = Bootstrap(20).draws(40)
    value, resampled = resampled_kernel(real, made, draws, chunk=7)
    assert value == pytest.approx(float(squared_mmd(real, made)))
    expected = [float(squared_mmd(real, made[index])) for index in draws]
    assert resampled.tolist() == pytest.approx(expected)
    unequal, none = resampled_kernel(real, made[:11], draws[:0])
    assert none.shape == (0,)
    assert unequal == pytest.approx(resampled_kernel(real, made[:11], draws[:0], chunk=3)[0])


def test_features_of_other_networks_and_nan_are_refused() -> None:
    draws = Bootstrap(20).draws(5)
    with pytest.raises(DataError, match="the same network"):
        resampled_kernel(rows(5, 3, 0), rows(5, 4, 0), draws)
    with pytest.raises(DataError, match="NaN"):
        resampled_frechet(fit_gaussian(rows(5, 3, 0)), rows(5, 3, 0) / 0, draws)


def test_intervals_of_a_distance_cover_what_many_sets_show() -> None:
    real = fit_gaussian(rows(400, 4, 0))
    sets = [rows(120, 4, seed, 1.25) for seed in range(1, 101)]
    distances = torch.tensor([frechet_distance(real, fit_gaussian(each)) for each in sets])
    truth = float(distances.mean())
    bootstrap = Bootstrap(60)
    draws = bootstrap.draws(120)
    covered = 0
    for each, distance in zip(sets, distances.tolist()):
        low, high = bootstrap.interval(distance, resampled_frechet(real, each, draws))
        assert low < distance < high
        covered += low <= truth <= high
    assert 85 <= covered <= 100


def test_intervals_of_a_share_cover_and_are_never_certain() -> None:
    bootstrap, truth = Bootstrap(100), 0.9
    rng = torch.Generator().manual_seed(0)
    covered = 0
    for _ in range(200):
        share = float((torch.rand(80, generator=rng) < truth).double().mean())
        low, high = bootstrap.interval(share, bootstrap.shares(share, 80), most=1.0)
        covered += low <= truth <= high
    assert covered / 200 >= 0.88
    for share in (0.0, 1.0):
        low, high = bootstrap.interval(share, bootstrap.shares(share, 80), most=1.0)
        assert 0 < high - low < 0.1
        assert low <= share <= high


def test_resamples_follow_from_the_seed() -> None:
    assert torch.equal(Bootstrap(30).draws(9), Bootstrap(30).draws(9))
    assert not torch.equal(Bootstrap(30).draws(9), Bootstrap(30, seed=1).draws(9))
    with pytest.raises(ConfigError, match="resamples=3"):
        Bootstrap(3)
