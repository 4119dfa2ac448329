"""Residual quantisation."""

from __future__ import annotations

import itertools

import pytest
import torch

from limner.core.errors import ConfigError
from limner.tokenizers.quantizers.residual import ResidualVQ, ResidualVQConfig
from limner.tokenizers.quantizers.upkeep import Upkeep


def fitted(shared: bool = False) -> tuple[ResidualVQ, torch.Tensor]:
    rng = torch.Generator().manual_seed(0)
    vectors = torch.randn(600, 4, generator=rng)
    quantizer = ResidualVQ(ResidualVQConfig(levels=4, codebook_size=16, width=4, shared=shared))
    Upkeep(quantizer).update(quantizer, vectors, quantizer.nearest(vectors), rng)
    return quantizer, vectors


def test_every_level_mends_what_is_left() -> None:
    quantizer, vectors = fitted()
    errors = [
        float((quantizer.quantize(vectors, levels=used).values - vectors).square().mean())
        for used in range(1, 5)
    ]
    assert all(late < 0.7 * early for early, late in itertools.pairwise(errors))
    assert errors[0] < 0.5


def test_dropped_levels_add_nothing() -> None:
    quantizer, vectors = fitted()
    quantized = quantizer.quantize(vectors, levels=2)
    assert (quantized.ids[:, 2:] == -1).all() and len(quantized.losses) == 4
    torch.testing.assert_close(quantizer.lookup(quantized.ids), quantized.values)
    with pytest.raises(ConfigError, match="levels=5"):
        quantizer.quantize(vectors, levels=5)


def test_ids_by_hand() -> None:
    quantizer, vectors = fitted()
    rest = vectors
    for level, table in enumerate(quantizer.codebooks()):
        nearest = torch.cdist(rest, table.weight).argmin(dim=1)
        assert torch.equal(quantizer.nearest(vectors)[:, level], nearest)
        (seen,) = [quantizer.assignments(vectors, quantizer.nearest(vectors))[level]]
        torch.testing.assert_close(seen.vectors, rest)
        rest = rest - table.weight[nearest]


def test_a_shared_table_serves_all_levels() -> None:
    quantizer, vectors = fitted(shared=True)
    assert len(quantizer.codebooks()) == 1
    (seen,) = quantizer.assignments(vectors, quantizer.nearest(vectors))
    assert len(seen.vectors) == 4 * len(vectors)
    error = (quantizer.lookup(quantizer.nearest(vectors)) - vectors).square().mean()
    assert error < 0.5
