"""Replays of metrics that compare two sets of feature vectors."""

from __future__ import annotations

import warnings
from typing import Any

from limner.metrics.draws import subset_pairs
from limner.metrics.frechet import TooFewPictures, fit_gaussian, frechet_distance, spatial_features
from limner.metrics.kid import PolynomialKernel, kernel_distances
from limner.metrics.manifold import manifold_scores, radii
from limner.metrics.scores import score_of
from limner.verify.case import Case
from limner.verify.registry import replay

_SIDES = ("real", "fake")


@replay("evaluation-metrics/fid*")
def frechet(case: Case) -> None:
    """Means, covariances and distances, of singular covariances and feature maps too."""
    for name in case.tensors:
        arguments = case.arguments(name)
        if "cov_ddof" in arguments:
            _check_distance(case, name, arguments)
    for side in _SIDES:
        gaussian = fit_gaussian(case.input(side), case.hyper["cov_ddof"])
        case.check(f"{side}_mu", gaussian.mean)
        case.check(f"{side}_sigma", gaussian.covariance)


def _check_distance(case: Case, name: str, arguments: dict[str, Any]) -> None:
    features = [case.input(arguments.get(side, side)) for side in _SIDES]
    if "channels" in arguments:
        kept = case.hyper["spatial_channels_kept"]
        features = [spatial_features(maps, kept) for maps in features]
    gaussians = [fit_gaussian(side, arguments["cov_ddof"]) for side in features]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TooFewPictures)  # as many as the case has
        case.check(name, frechet_distance(*gaussians))


@replay("evaluation-metrics/kid*")
def kernel(case: Case) -> None:
    """Random subsets, the distance of each pair, and what they come to."""
    real, fake = (case.input(side) for side in _SIDES)
    drawn, given = case.arguments("subset_real"), case.arguments("mmd2")
    settings = (drawn["subsets"], drawn["subset_size"], drawn["rng_seed"])
    first, second = subset_pairs(len(real), len(fake), *settings)
    shape = PolynomialKernel(given["degree"], given["gamma"], given["coef0"])
    distances = kernel_distances(real, fake, *settings, shape)
    case.check("subset_real", first)
    case.check("subset_fake", second)
    case.check("mmd2", distances)
    case.check("kid_mean", score_of(distances).mean)
    case.check("kid_std", score_of(distances).deviation)


@replay("evaluation-metrics/precision-recall*")
def manifold(case: Case) -> None:
    """Radii, and how the two sets overlap, for several numbers of neighbours."""
    real, fake = (case.input(side) for side in _SIDES)
    for number in sorted({given["k"] for _, given in case.match("k{k}_{score}")}):
        scores = manifold_scores(real, fake, number)
        for score in ("precision", "recall", "density", "coverage"):
            case.check(f"k{number}_{score}", getattr(scores, score))
        case.check(f"k{number}_radii_real", radii(real, number))
        case.check(f"k{number}_radii_fake", radii(fake, number))
