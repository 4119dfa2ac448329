"""The packaged network tells noise from blur, and blur from real pictures, by all its numbers."""

from __future__ import annotations

import torch
from torch.nn import functional

from limner.data import load_packaged
from limner.evaluation.features import describe, load_space
from limner.evaluation.numbers import Comparison
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.sides import side_of

from .conftest import Held


def test_worse_pictures_have_worse_numbers() -> None:
    rng = torch.Generator().manual_seed(0)
    pixels = load_packaged(size=32).pixels
    pixels = pixels[torch.randperm(len(pixels), generator=rng)]
    half = pixels[450:900]
    padded = functional.pad(half.float(), (2, 2, 2, 2), mode="replicate")
    space = load_space("packaged")
    real = side_of(describe(Held(pixels[:450]), space))
    found = [
        Comparison(real, describe(Held(made), space), space, Bootstrap(20)).numbers()[0]
        for made in (
            half,
            functional.avg_pool2d(padded, 5, 1).round().to(torch.uint8),
            torch.randint(256, half.shape, generator=rng, dtype=torch.uint8),
        )
    ]
    for name in ("frechet_distance", "kernel_distance"):
        other, blur, noise = (numbers[name] for numbers in found)
        assert other.high < blur.low and blur.high < noise.low
    for name in ("recall", "coverage"):
        other, blur, noise = (numbers[name] for numbers in found)
        assert other.low > blur.value > noise.high
    assert found[0]["frechet_distance"].title == "FD (limner features)"
