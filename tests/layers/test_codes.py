"""What a fresh model takes from its tokenizer's codes."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.heads.diffusion import DiffusionConfig
from limner.layers.codes import projected_codes
from limner.layers.vision_transformer import StackConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.mar import MAR, MARConfig
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchKMeans,
    PatchKMeansConfig,
)
from limner.training.parts import start_from_codes


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_projections_keep_distances() -> None:
    vectors = torch.randn(40, 24, generator=seeded(1))
    projected = projected_codes(vectors, 4096, seeded())
    whitened = (vectors - vectors.mean(0)) / vectors.std(0)
    before, after = torch.pdist(whitened) / 24**0.5, torch.pdist(projected) / 4096**0.5
    # a squared distance over 4096 directions deviates by sqrt(2 / 4096) of itself; five times that
    assert float((after**2 / before**2 - 1).abs().max()) < 5 * (2 / 4096) ** 0.5
    assert abs(float(projected.var()) - 1) < 0.1


def test_like_codes_begin_alike() -> None:
    tokenizer = PatchKMeans(PatchKMeansConfig(width=8, codebook_size=32))
    vectors = torch.randn(32, 8, generator=seeded(2))
    vectors[1] = vectors[0] + 0.01
    with torch.no_grad():
        tokenizer.code_vectors().copy_(vectors)
    model = LlamaGen(LlamaGenConfig(64, 1, 4, 32, classes=2))
    start_from_codes(model, tokenizer, seeded())
    for table in (model.tokens.weight, model.output.weight):
        distance = torch.cdist(table, table).detach()
        assert float(distance[0, 1]) < 0.05 * float(distance[0, 2:].min())


def test_parts_that_cannot_say_so() -> None:
    stack = StackConfig(width=16, depth=1, heads=2)
    model = MAR(MARConfig(stack, stack, DiffusionConfig(width=16, depth=1)))
    with pytest.raises(ConfigError, match="PatchContinuous cannot"):
        start_from_codes(model, PatchContinuous(PatchContinuousConfig()), seeded())
    with pytest.raises(ConfigError, match="MAR cannot"):
        start_from_codes(model, PatchKMeans(PatchKMeansConfig()), seeded())
