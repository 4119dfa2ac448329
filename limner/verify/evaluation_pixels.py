"""Replays of metrics that compare pictures with pictures."""

from __future__ import annotations

from typing import Any

from torch import Tensor

from limner.layers.feature_distances import feature_distance
from limner.layers.resize import resize
from limner.metrics import pixels
from limner.verify.case import Case
from limner.verify.registry import replay

_MAPPINGS = {"x": (0.0, 1.0), "2x-1": (-1.0, 1.0)}
"""What becomes of 0 and 1."""


@replay("evaluation-metrics/pixel*")
def compared(case: Case) -> None:
    """PSNR, SSIM and MS-SSIM by several conventions, three ways of resizing, LPIPS of features."""
    for name in case.tensors:
        given = case.arguments(name)
        if "data_range" in given:
            case.check(name, _measured(case, name, given))
        elif "kind" in given:
            case.check(name, resize(case.input(given["input"]), given["size"], given["kind"]))
        elif "features" in given:
            patterns = (*given["features"], given["weights"])
            first, second, weights = (_layers(case, pattern) for pattern in patterns)
            case.check(name, feature_distance(first, second, weights, given["eps"]))
    pred, target = case.input("pred"), case.input("target")
    case.check("mse", pixels.squared_error(pred, target, "batch"))
    case.check("mae", pixels.absolute_error(pred, target, "batch"))
    window = case.arguments("gaussian_window")
    config = pixels.SSIMConfig(window["sigma"], window["window"])
    case.check("gaussian_window", config.weights())


def _measured(case: Case, name: str, given: dict[str, Any]) -> Tensor:
    pred, target = (case.input(given[side]) for side in ("pred", "target"))
    if "pictures" in given:
        to = _MAPPINGS[given["pictures"]]
        pred, target = (pixels.rescaled(side, (0.0, 1.0), to) for side in (pred, target))
    values = (0.0, given["data_range"])
    if "over" in given:
        return pixels.psnr(pred, target, values, given["over"])
    config = _config({**case.hyper, **given})
    if name.startswith("ms_"):
        return pixels.ms_ssim(pred, target, values, config, case.hyper["ms_weights"])
    return pixels.ssim(pred, target, values, config)


def _config(given: dict[str, Any]) -> pixels.SSIMConfig:
    """Return the settings that a package has, or takes."""
    constants = {"k1": given["k1"], "k2": given["k2"]}
    convention, sigma, window = given["convention"], given["sigma"], given["window"]
    if convention == "torchmetrics":
        return pixels.SSIMConfig(sigma, border="reflect", **constants)
    if convention == "pytorch-msssim":
        return pixels.SSIMConfig(sigma, window, **constants)
    if convention == "scikit-image gaussian":
        sample = given["use_sample_covariance"]
        return pixels.SSIMConfig(sigma, unbiased=sample, **constants)
    return pixels.SSIMConfig(None, window, unbiased=True, **constants)


def _layers(case: Case, pattern: str) -> list[Tensor]:
    found = {given["layer"]: case.input(name) for name, given in case.match(pattern)}
    return [found[layer] for layer in sorted(found)]
