"""What all quantisers have in common."""

from __future__ import annotations

import pytest
import torch

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.tokenizers.quantizers.bsq import BSQConfig
from limner.tokenizers.quantizers.build import QuantizerConfig, VQConfig, build_quantizer
from limner.tokenizers.quantizers.fsq import FSQConfig
from limner.tokenizers.quantizers.lfq import LFQConfig
from limner.tokenizers.quantizers.projected import Projected
from limner.tokenizers.quantizers.quantizer import Quantizer
from limner.tokenizers.quantizers.residual import ResidualVQConfig
from limner.tokenizers.vqgan import VQGANConfig

CONFIGS: list[QuantizerConfig] = [
    VQConfig(codebook_size=16, width=3),
    VQConfig(codebook_size=16, width=3, normalize=True, rotation=True),
    ResidualVQConfig(levels=3, codebook_size=8, width=3),
    ResidualVQConfig(levels=3, codebook_size=8, width=3, shared=True),
    FSQConfig(levels=(4, 3, 5)),
    FSQConfig(levels=(2, 4), symmetric=True),
    LFQConfig(bits=3),
    LFQConfig(bits=2, groups=3, spherical=True),
    BSQConfig(bits=4),
    BSQConfig(bits=6, group=3, entropy_by="group"),
]


@pytest.fixture(params=CONFIGS, ids=lambda config: f"{config.kind}")
def quantizer(request: pytest.FixtureRequest) -> Quantizer:
    torch.manual_seed(0)
    made = build_quantizer(request.param)
    for book in made.codebooks():
        torch.nn.init.normal_(book.weight)
    return made


def test_ids_stand_for_values(quantizer: Quantizer) -> None:
    vectors = torch.randn(2, 5, 4, quantizer.width)
    quantized = quantizer(vectors)
    depth = (quantizer.depth,) if quantizer.depth > 1 else ()
    assert quantized.values.shape == vectors.shape
    assert quantized.ids.shape == (2, 5, 4, *depth)
    assert quantized.ids.min() >= 0 and quantized.ids.max() < quantizer.codebook_size
    torch.testing.assert_close(quantizer.lookup(quantized.ids), quantized.values.detach())
    assert torch.equal(quantizer.nearest(vectors), quantized.ids)


def test_gradients_pass_and_losses_are_finite(quantizer: Quantizer) -> None:
    vectors = torch.randn(50, quantizer.width, requires_grad=True)
    quantized = quantizer(vectors)
    upstream = torch.randn_like(vectors)
    (gradient,) = torch.autograd.grad(quantized.values, vectors, upstream, retain_graph=True)
    assert (gradient != 0).any(dim=1).all() and gradient.isfinite().all()
    assert quantized.loss.isfinite() and quantized.loss.shape == ()
    for book in quantizer.codebooks():
        (moved,) = torch.autograd.grad(quantized.loss, book.weight, retain_graph=True)
        assert (moved != 0).any()


def test_masked_vectors_count_nowhere(quantizer: Quantizer) -> None:
    vectors, mask = torch.randn(2, 6, quantizer.width), torch.rand(2, 6) < 0.5
    hidden = torch.where(mask.unsqueeze(-1), vectors, 1e3)
    masked, alone = quantizer(hidden, mask), quantizer(vectors[mask])
    assert (masked.ids[~mask] == -1).all() and (masked.values[~mask] == 0).all()
    assert torch.equal(masked.ids[mask], alone.ids)
    torch.testing.assert_close(masked.loss, alone.loss)


def test_half_precision_does_not_change_ids(quantizer: Quantizer) -> None:
    vectors = torch.randn(200, quantizer.width).bfloat16()
    assert torch.equal(quantizer.nearest(vectors), quantizer.nearest(vectors.float()))


@pytest.mark.parametrize("config", CONFIGS, ids=lambda config: config.kind)
def test_configurations_survive_a_file(config: QuantizerConfig) -> None:
    whole = VQGANConfig(quantizer=config)
    assert from_dict(VQGANConfig, to_dict(whole)) == whole


def test_the_kind_decides_which_fields_are_known() -> None:
    with pytest.raises(ConfigError, match=r"unknown field of quantizer 'codebook_size'.*levels"):
        from_dict(VQGANConfig, {"quantizer": {"kind": "fsq", "codebook_size": 8}})
    with pytest.raises(ConfigError, match=r"'fsg'"):
        from_dict(VQGANConfig, {"quantizer": {"kind": "fsg"}})


def test_projections_stand_around_where_widths_differ() -> None:
    torch.manual_seed(0)
    inner = build_quantizer(LFQConfig(bits=3, groups=2))
    projected = Projected(inner, 9)
    vectors = torch.randn(4, 9)
    ids = projected.nearest(vectors)
    assert torch.equal(ids, inner.nearest(projected.into(vectors)))
    torch.testing.assert_close(projected.lookup(ids), projected(vectors).values)
    assert not list(Projected(inner, 6).parameters())


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: FSQConfig(levels=(5, 1)), "levels"),
        (lambda: LFQConfig(bits=30), "bits=30"),
        (lambda: BSQConfig(bits=10, group=3), "group=3"),
        (lambda: ResidualVQConfig(levels=1), "levels=1"),
        (lambda: VQConfig(commitment=-1.0), "commitment"),
    ],
)
def test_bad_configurations_are_named(make, message: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ConfigError, match=message):
        make()
