"""Replays of the networks that judge pictures, with weights that a rule describes."""

from __future__ import annotations

import torch

from limner.hub.official import inception as official_inception
from limner.hub.official import lpips_networks
from limner.layers.feature_distances import layer_distances
from limner.metrics.frechet import spatial_features
from limner.verify.case import Case
from limner.verify.registry import replay
from limner.verify.seeded_weights import seeded_weights


@replay("evaluation-metrics/inception*")
@torch.no_grad()
def inception(case: Case) -> None:
    """Features at all depths, and the logits."""
    state = seeded_weights(official_inception.shapes(), case.hyper["weight_seed"])
    features = official_inception.inception(state)(case.input("images"))
    for depth in (64, 192, 768, 2048):
        case.check(f"pool_{depth}", getattr(features, f"pool_{depth}"))
    case.check("logits", features.logits)
    case.check("logits_unbiased", features.logits_unbiased)
    channels = case.arguments("spatial")["channels"]
    case.check("spatial", spatial_features(features.maps, channels))


@replay("evaluation-metrics/lpips*")
@torch.no_grad()
def lpips(case: Case) -> None:
    """Distances by every trunk, whole and layer by layer."""
    first, second = case.input("a"), case.input("b")
    for net in case.hyper["keys_first_last_count_values"]:
        state = seeded_weights(lpips_networks.shapes(net), case.hyper["weight_seed"])
        network = lpips_networks.lpips(net, state)
        features = network.features(first), network.features(second)
        case.check(net, network(first, second))
        case.check(f"{net}_layers", layer_distances(*features, network.weights))
