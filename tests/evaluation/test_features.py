"""Features are computed exactly, and of every picture; what cannot be trusted is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.core.errors import CheckpointError, ConfigError, DataError
from limner.evaluation import features
from limner.evaluation.features import FeatureSpace, Vectors, describe, load_space
from limner.layers.features import FeatureConfig, FeatureNetwork
from limner.layers.inception import Inception

from .conftest import Held, look


def test_all_pictures_are_described_in_their_order(
    space: FeatureSpace, levels: Tensor, held: Callable[..., Held]
) -> None:
    told = []
    described = describe(held(0, 130), space, 50, lambda what, n, of: told.append((what, n, of)))
    assert torch.equal(described.vectors.pooled, look(levels[:130]).pooled)
    assert described.shown.shape == (64, 3, 16, 16)
    assert torch.equal(described.shown[-1], levels[129])
    assert told == [("features of held", n, 130) for n in (50, 100, 130)]


def test_the_fingerprint_is_of_the_pictures_and_not_of_their_order(
    space: FeatureSpace, levels: Tensor
) -> None:
    prints = [
        describe(Held(some), space).fingerprint
        for some in (levels[:40], levels[:40].flip(0), levels[:41], levels[1:41])
    ]
    assert prints[0] == prints[1]
    assert len(set(prints)) == 3


def test_tf32_is_off_meanwhile_and_as_it_was_after(space: FeatureSpace, levels: Tensor) -> None:
    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    seen = []

    def spy(given: Tensor) -> Vectors:
        seen.append((matmul.allow_tf32, cudnn.allow_tf32))
        return look(given)

    before = matmul.allow_tf32, cudnn.allow_tf32
    try:
        for fast in ((True, True), (False, True)):
            matmul.allow_tf32, cudnn.allow_tf32 = fast
            describe(Held(levels[:5]), replace(space, network=spy))
            assert (matmul.allow_tf32, cudnn.allow_tf32) == fast
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before
    assert seen == [(False, False)] * 2


def test_features_that_are_not_finite_are_named(space: FeatureSpace, levels: Tensor) -> None:
    def broken(given: Tensor) -> Vectors:
        pooled = look(given).pooled
        pooled[given.float().mean(dim=(1, 2, 3)) == 0] = torch.nan
        return Vectors(pooled)

    some = levels[:12].clone()
    some[7] = 0
    with pytest.raises(DataError, match=r"pictures 5 to 9 of held of 1 of 5 .* NaN.*row 2"):
        describe(Held(some), replace(space, network=broken), batch=5)
    with pytest.raises(DataError, match="holds no pictures"):
        describe(Held(some[:0]), space)


def test_missing_weights_are_named_with_the_place_they_come_from(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    expected = r"weights-inception-2015-12-05-6726825d\.pth there, from https://github\.com/toshas"
    with pytest.raises(CheckpointError, match=expected):
        load_space("inception")
    with pytest.raises(CheckpointError, match=r"mine\.pth"):
        load_space("inception", tmp_path / "mine.pth")
    with pytest.raises(ConfigError, match="the packaged network brings its own"):
        load_space("packaged", "mine.pth")
    with pytest.raises(ConfigError, match="did you mean 'inception'"):
        load_space("inceptoin")


def test_inception_gives_what_fid_sfid_and_the_inception_score_need(
    monkeypatch: pytest.MonkeyPatch, levels: Tensor
) -> None:
    monkeypatch.setattr(features, "load_inception", lambda weights: Inception().eval())
    space = load_space("inception")
    assert [space.title(name) for name in (space.distance, space.kernel)] == ["FID", "KID"]
    vectors = describe(Held(levels[:2]), space).vectors
    assert vectors.pooled.shape == (2, 2048)
    assert vectors.spatial is not None and vectors.spatial.shape == (2, 2023)
    assert vectors.logits is not None and vectors.logits.shape == (2, 1008)


def test_the_packaged_space_is_never_called_fid(
    monkeypatch: pytest.MonkeyPatch, levels: Tensor
) -> None:
    network = FeatureNetwork(FeatureConfig((4, 8), (1, 1)))
    monkeypatch.setattr(features, "load_features", lambda device: network)
    space = load_space("packaged")
    assert space.title(space.distance) == "FD (limner features)"
    described = describe(Held(levels[:3]), space)
    expected = network.vectors(levels[:3] / 127.5 - 1)
    assert torch.allclose(described.vectors.pooled, expected)
    with torch.no_grad():
        network.stages[0][0].weight[0] += 1
    assert load_space("packaged").fingerprint != space.fingerprint
