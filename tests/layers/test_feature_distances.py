"""Distances of features whose directions are known, and the trunk of AlexNet."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.layers.alexnet import AlexNetLPIPS
from limner.layers.feature_distances import feature_distance, layer_distances
from limner.layers.perceptual import LPIPS


def vectors(*places: tuple[float, float]) -> Tensor:
    """One picture with two channels and a row of places."""
    return torch.tensor(places, dtype=torch.float32).T.reshape(1, 2, 1, -1)


def test_directions_count_and_lengths_do_not() -> None:
    weights = torch.tensor([1.0, 3.0])
    first, second = vectors((5, 0), (1, 1)), vectors((0, 0.1), (7, 7))
    # (1, 0) against (0, 1) is 1 + 3; the other place agrees
    layers = layer_distances([first, first], [second, first], [weights, weights])
    torch.testing.assert_close(layers, torch.tensor([[2.0, 0.0]]))
    torch.testing.assert_close(
        feature_distance([first, second], [second, first], [weights, weights]), torch.tensor([4.0])
    )


def test_nothing_at_all_is_at_finite_distance() -> None:
    nothing, something = vectors((0, 0)), vectors((0, 2))
    distance = feature_distance([nothing], [something], [torch.ones(2)])
    assert distance.tolist() == pytest.approx([1.0])


@pytest.mark.parametrize(
    ("build", "sides"), [(LPIPS, (64, 32, 16, 8, 4)), (AlexNetLPIPS, (15, 7, 3, 3, 3))]
)
def test_networks_sum_over_their_layers(build, sides) -> None:  # type: ignore[no-untyped-def]
    torch.manual_seed(0)
    widths = (4, 5, 6, 7, 8)
    network = build(widths)
    first, second = (torch.rand(2, 3, 64, 64) * 2 - 1 for _ in range(2))
    features = network.features(first), network.features(second)
    shapes = [(2, width, side, side) for width, side in zip(widths, sides)]
    assert [feature.shape for feature in features[0]] == shapes
    assert all((feature >= 0).all() for feature in features[0])
    torch.testing.assert_close(network(first, second), feature_distance(*features, network.weights))
    assert (network(first, first) == 0).all() and (network(first, second) > 0).all()
    assert not any(weight.requires_grad for weight in network.parameters())
