"""The numbers say which pictures are near to real ones, and what they were measured with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.evaluation import numbers
from limner.evaluation.features import Described, FeatureSpace, Vectors, describe
from limner.evaluation.numbers import Comparison
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.sides import side_of
from limner.metrics.frechet import fit_gaussian, frechet_distance
from limner.metrics.inception_score import even_parts, inception_score
from limner.metrics.manifold import manifold_scores

from .conftest import Held, look

BOOTSTRAP = Bootstrap(20)


def compared(real: Described, made: Described, space: FeatureSpace, **others: Described):
    found, notes = Comparison(side_of(real), made, space, BOOTSTRAP, **others).numbers()
    return found, notes


def blurred(levels: Tensor) -> Tensor:
    padded = functional.pad(levels.float(), (2, 2, 2, 2), mode="replicate")
    return functional.avg_pool2d(padded, 5, 1).round().to(torch.uint8)


def noise(count: int) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, 3, 16, 16), generator=rng, dtype=torch.uint8)


def test_identical_sets_are_at_distance_zero(
    space: FeatureSpace, held: Callable[..., Held]
) -> None:
    same = describe(held(0, 200), space)
    found, notes = compared(same, same, space)
    assert found["frechet_distance"].value == pytest.approx(0, abs=1e-6)
    assert found["precision"].value == found["recall"].value == found["coverage"].value == 1
    assert found["kernel_distance"].value <= 0
    assert notes == ()


def test_noise_is_worse_than_blur_and_blur_worse_than_other_real_pictures(
    space: FeatureSpace, levels: Tensor, held: Callable[..., Held]
) -> None:
    real = describe(held(0, 400), space)
    sets = {
        "other": levels[400:800],
        "blur": blurred(levels[400:800]),
        "noise": noise(400),
    }
    found = {
        name: compared(real, describe(Held(each, name), space), space)[0]
        for name, each in sets.items()
    }
    for name in ("frechet_distance", "kernel_distance"):
        other, blur, noisy = (found[each][name] for each in sets)
        assert other.value < other.high < blur.low < blur.value < blur.high < noisy.low
        assert other.better == "lower"
    assert found["noise"]["precision"].value < found["other"]["precision"].value
    assert found["noise"]["recall"].value < found["other"]["recall"].value


def test_numbers_are_those_of_the_metrics_and_carry_their_settings(
    space: FeatureSpace, levels: Tensor, held: Callable[..., Held]
) -> None:
    real, made = describe(held(0, 90), space), describe(held(90, 160), space)
    other = describe(held(160, 230, "other"), space)
    found, _ = compared(real, made, space, other=other)
    a, b, c = (side.vectors.pooled for side in (real, made, other))
    distance = found["frechet_distance"]
    assert distance.title == "FD (simple features)"
    assert distance.value == frechet_distance(fit_gaussian(a), fit_gaussian(b))
    assert distance.real == frechet_distance(fit_gaussian(a), fit_gaussian(c))
    assert distance.real_count == 70
    assert distance.settings == {"drawn": 70, "real": 90, "features": 18}
    scores = manifold_scores(a, b, 3)
    assert (found["precision"].value, found["recall"].value) == (scores.precision, scores.recall)
    assert found["coverage"].value == manifold_scores(a, b, 5).coverage
    assert found["coverage"].real == manifold_scores(a, c, 5).coverage
    assert found["recall"].resampled == "real pictures"


def test_the_order_of_pictures_does_not_matter(
    space: FeatureSpace, levels: Tensor, held: Callable[..., Held]
) -> None:
    real = describe(held(0, 90), space)
    turned = Held(levels[90:160].flip(0))
    first, second = (
        compared(real, describe(made, space), space)[0] for made in (held(90, 160), turned)
    )
    for name, number in first.items():
        assert second[name].value == pytest.approx(number.value, rel=1e-9), name


def test_fewer_pictures_than_features_are_measured_and_noted(
    space: FeatureSpace, held: Callable[..., Held]
) -> None:
    found, notes = compared(describe(held(0, 15), space), describe(held(20, 35), space), space)
    assert found["frechet_distance"].value > 0
    assert len(notes) == 1 and "18 features from 15 and 15 pictures" in notes[0]


def test_spatial_features_and_answers_give_their_own_numbers(
    space: FeatureSpace, held: Callable[..., Held]
) -> None:
    def more(levels: Tensor) -> Vectors:
        pooled = look(levels).pooled
        return Vectors(pooled, pooled[:, :5], 9 * pooled[:, 5:9])

    richer = replace(space, network=more, distance="FID", kernel="KID", label="")
    real, made, other = (describe(held(60 * i, 60 * i + 60), richer) for i in range(3))
    found, _ = compared(real, made, richer, other=other)
    titles = [number.title for number in found.values()]
    assert titles[:4] == ["FID", "sFID", "Inception Score", "KID"]
    maps, logits = made.vectors.spatial, made.vectors.logits
    assert maps is not None and logits is not None and real.vectors.spatial is not None
    expected = frechet_distance(fit_gaussian(real.vectors.spatial), fit_gaussian(maps))
    assert found["spatial_frechet_distance"].value == expected
    score = found["inception_score"]
    assert 1 < score.low < score.value < score.high < 4
    assert score.value == pytest.approx(inception_score(logits, even_parts(60)).mean, abs=0.1)


def test_large_sets_are_compared_by_some_of_their_pairs(
    space: FeatureSpace, held: Callable[..., Held], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(numbers, "MOST", 30)
    found, _ = compared(describe(held(0, 90), space), describe(held(90, 160), space), space)
    assert found["kernel_distance"].settings == {"drawn": 30, "real": 30, "pairs": "all"}
    assert found["precision"].settings == {"drawn": 70, "real": 30, "neighbours": 3}


def test_the_course_ends_with_the_distance(space: FeatureSpace, held: Callable[..., Held]) -> None:
    side, made = side_of(describe(held(0, 300), space)), describe(held(300, 460), space)
    course = Comparison(side, made, space, BOOTSTRAP).course()
    assert [count for count, _ in course] == [20, 40, 80, 160]
    distance = frechet_distance(side.gaussian, fit_gaussian(made.vectors.pooled))
    assert course[-1][1] == pytest.approx(distance)
    assert course[0][1] > course[-1][1]  # fewer pictures, larger distance
