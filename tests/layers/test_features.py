"""The feature network and the distance by it: shapes, gradients, and that it sees as eyes do."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, DataError
from limner.data import load_packaged
from limner.data.images import to_float
from limner.hub.packaged import load_features
from limner.layers.features import FeatureConfig, FeatureNetwork
from limner.layers.perceptual import FeatureDistance

SMALL = FeatureConfig(widths=(4, 6, 8), convolutions=(1, 2, 1))


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """A dozen held-out pictures of every artist, float [36, 3, 32, 32]."""
    held_out = [load_packaged(name, 32).split(0.1)[1] for name in ("twemoji", "noto", "fluent")]
    return torch.cat([to_float(part.pixels[::12][:12]) for part in held_out])


@pytest.mark.parametrize("size", [(16, 16), (17, 31), (48, 20), (100, 64)])
def test_pictures_of_any_size_are_accepted(size: tuple[int, int]) -> None:
    network = FeatureNetwork(SMALL)
    maps = network(torch.rand(2, 3, *size) * 2 - 1)
    for depth, (features, width) in enumerate(zip(maps, SMALL.widths)):
        sides = [-(-side // 2**depth) for side in size]
        assert features.shape == (2, width, *sides)


def test_vectors_are_the_means_of_all_maps() -> None:
    network = FeatureNetwork(SMALL)
    pictures = torch.rand(2, 3, 18, 18) * 2 - 1
    vectors = network.vectors(pictures)
    assert vectors.shape == (2, network.width) == (2, 18)
    deepest = network(pictures)[-1]
    torch.testing.assert_close(vectors[:, -8:], deepest.sum((2, 3)) / deepest[0, 0].numel())


def test_a_constant_stays_constant_under_pooling() -> None:
    """Also at the odd edge, where a mean is taken over fewer places."""
    network = FeatureNetwork(SMALL)
    with torch.no_grad():
        for convolution in network.modules():
            if isinstance(convolution, torch.nn.Conv2d):
                convolution.weight.zero_()
                convolution.weight[:, :, 1, 1] = 1.0
    for features in network(torch.ones(1, 3, 19, 19)):
        torch.testing.assert_close(features, features[:, :, :1, :1].expand_as(features))


def test_published_size() -> None:
    assert sum(p.numel() for p in FeatureNetwork().parameters()) == 475_680


@pytest.mark.parametrize("shape", [(2, 1, 32, 32), (3, 32, 32), (1, 3, 15, 40)])
def test_other_pictures_are_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(DataError, match="16 x 16"):
        FeatureNetwork(SMALL)(torch.zeros(shape))


@pytest.mark.parametrize(
    ("field", "value"),
    [("widths", ()), ("widths", (4, 0, 4)), ("convolutions", (1, 2)), ("convolutions", (1, 0, 1))],
)
def test_bad_fields_are_named(field: str, value: tuple[int, ...]) -> None:
    with pytest.raises(ConfigError, match=field):
        FeatureConfig(**{"widths": (4, 6, 8), "convolutions": (1, 1, 1), field: value})


def test_it_is_a_distance(pictures: Tensor) -> None:
    distance = FeatureDistance(load_features())
    others = pictures.roll(1, dims=0)
    assert (distance(pictures, pictures) == 0).all()
    torch.testing.assert_close(distance(pictures, others), distance(others, pictures))
    nearer = pictures + 0.1 * (others - pictures)
    assert (distance(pictures, nearer) < distance(pictures, others)).all()


def test_gradients_reach_every_pixel_and_no_weight(pictures: Tensor) -> None:
    network = load_features()
    shown = pictures[:4, :, :31, :31].clone().requires_grad_(True)
    FeatureDistance(network)(pictures[4:8, :, :31, :31], shown).sum().backward()
    assert shown.grad is not None and shown.grad.isfinite().all()
    assert (shown.grad.abs().sum(dim=1) > 0).all()
    assert all(p.grad is None for p in network.parameters())


def test_a_gradient_of_equal_pictures_is_finite(pictures: Tensor) -> None:
    shown = pictures.clone().requires_grad_(True)
    FeatureDistance(load_features())(pictures, shown).sum().backward()
    assert shown.grad is not None and shown.grad.isfinite().all()


def spoiled(pictures: Tensor) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(0)
    soft = functional.avg_pool2d(pictures, 3, 1, padding=1, count_include_pad=False)
    noisy = pictures + 0.2 * torch.randn(pictures.shape, generator=rng)
    blocky = functional.interpolate(functional.avg_pool2d(pictures, 4), scale_factor=4.0)
    return {"soft": soft, "noisy": noisy, "blocky": blocky}


def preference(distance: FeatureDistance, pictures: Tensor) -> dict[str, float]:
    """How often a spoiled picture is farther than one that is darker by the same squared error."""
    shares = {}
    for name, other in spoiled(pictures).items():
        error = (other - pictures).square().mean(dim=(1, 2, 3), keepdim=True)
        darker = pictures - error.sqrt()
        wins = distance(pictures, other) > distance(pictures, darker)
        shares[name] = float(wins.float().mean())
    return shares


def test_it_minds_what_eyes_mind(pictures: Tensor) -> None:
    shares = preference(FeatureDistance(load_features()), pictures)
    assert min(shares.values()) >= 0.9, shares


def test_an_untrained_network_does_not(pictures: Tensor) -> None:
    torch.manual_seed(0)
    shares = preference(FeatureDistance(FeatureNetwork()), pictures)
    assert min(shares.values()) < 0.7, shares


def test_the_same_emoji_of_another_artist_is_near() -> None:
    """Held out: chance is below one in a hundred."""
    network = load_features()
    first, second = (load_packaged(name, 32).split(0.1)[1] for name in ("twemoji", "noto"))
    ours, theirs = (network.vectors(to_float(part.pixels)) for part in (first, second))
    mean, spread = ours.mean(dim=0), ours.std(dim=0) + 1e-6
    ours, theirs = (functional.normalize((v - mean) / spread) for v in (ours, theirs))
    found = [second.keys[i] for i in (ours @ theirs.T).argmax(dim=1).tolist()]
    hits = [found[i] == key for i, key in enumerate(first.keys) if key in second.keys]
    assert len(hits) > 150 and sum(hits) / len(hits) > 0.6
