"""Precision, recall, density and coverage of sets for which they are known."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from limner.core.errors import ConfigError, DataError
from limner.metrics.manifold import ManifoldScores, manifold_scores, radii


def rows(count: int, width: int = 5, seed: int = 0) -> Tensor:
    return torch.randn(count, width, generator=torch.Generator().manual_seed(seed))


def line(*places: float) -> Tensor:
    return torch.tensor(places).unsqueeze(1)


def test_points_on_a_line() -> None:
    """Real balls of 0, 1, 3, 10 reach 1, 1, 2, 7; made ones of 2, 2.5, 20 reach .5, .5, 17.5."""
    real, made = line(0, 1, 3, 10), line(2, 2.5, 20)
    assert radii(real, 1).tolist() == [1, 1, 2, 7]
    scores = manifold_scores(real, made, neighbours=1)
    # 2 lies on the edge of 1's ball and in 3's; 2.5 in 3's only; 20 in none
    assert scores.precision == pytest.approx(2 / 3)
    assert scores.density == pytest.approx((2 + 1 + 0) / 3)
    # 3 lies on the edge of 2.5's ball, and it and 10 within 20's
    assert scores.recall == pytest.approx(2 / 4)
    assert scores.coverage == pytest.approx(2 / 4)


def test_the_same_set_twice() -> None:
    features = rows(80)
    scores = manifold_scores(features, features.clone(), neighbours=3)
    assert (scores.precision, scores.recall, scores.coverage) == (1, 1, 1)
    # a vector lies in its own ball, and in three others on average
    assert 1 < scores.density <= 2


def test_sets_far_apart() -> None:
    assert manifold_scores(rows(40), rows(40) + 100) == ManifoldScores(0, 0, 0, 0)


def test_copies_of_one_picture_are_precise_and_nothing_else() -> None:
    real = rows(100)
    scores = manifold_scores(real, real[:1].repeat(60, 1))
    assert scores.precision == 1
    assert scores.recall == pytest.approx(1 / 100)
    assert scores.coverage < 0.15


def test_identical_rows_are_at_distance_zero_however_long_they_are() -> None:
    real = 1e3 + rows(3, 64).repeat_interleave(4, dim=0)
    assert radii(real, 3).tolist() == [0] * 12
    assert manifold_scores(real, real.clone()) == ManifoldScores(1, 1, 4 / 3, 1)


@pytest.mark.parametrize("chunk", [1, 7, 64])
def test_chunks_change_nothing(chunk: int) -> None:
    real, made = rows(60), 0.8 * rows(45, seed=1)
    assert manifold_scores(real, made, 4, chunk) == manifold_scores(real, made, 4)
    torch.testing.assert_close(radii(real, 4, chunk), radii(real, 4))


def test_radii_are_those_of_sorted_distances() -> None:
    features = rows(50).double()
    sorted_distances = (features[:, None] - features).norm(dim=2).sort(dim=1).values
    torch.testing.assert_close(radii(features, 3), sorted_distances[:, 3])


def test_memory_grows_with_the_chunk() -> None:
    class Largest(TorchFunctionMode):
        numbers = 0

        def __torch_function__(
            self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
        ) -> Any:
            result = func(*args, **(kwargs or {}))
            if isinstance(result, Tensor):
                self.numbers = max(self.numbers, result.numel())
            return result

    real, made = rows(700, 3), rows(600, 3, seed=1)
    with Largest() as seen:
        manifold_scores(real, made, 3, chunk=50)
    assert seen.numbers <= max(50 * 60, 700 * 4)  # a tile beside its neighbours, or a few a row


def test_bad_input_is_named() -> None:
    with pytest.raises(DataError, match="3 pictures are too few: at least 4"):
        manifold_scores(rows(3), rows(9))
    with pytest.raises(DataError, match="5 and 4 numbers"):
        manifold_scores(rows(9), rows(9, 4))
    with pytest.raises(DataError, match="NaN"):
        manifold_scores(rows(9), rows(9) * torch.nan)
    with pytest.raises(ConfigError, match="neighbours=0"):
        radii(rows(9), 0)
