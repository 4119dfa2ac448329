"""Tokenizers fitted in closed form, on real pictures."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError, DataError, LimnerError
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens
from limner.data.packaged import load_packaged
from limner.tokenizers.patches import (
    PatchConfig,
    PatchContinuous,
    PatchContinuousConfig,
    PatchKMeans,
    PatchKMeansConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
    PatchTokenizer,
)

FAMILIES = {
    "kmeans": lambda: PatchKMeans(PatchKMeansConfig(width=16, codebook_size=128)),
    "multiscale": lambda: PatchMultiScale(PatchMultiScaleConfig(width=8, codebook_size=128)),
    "continuous": lambda: PatchContinuous(PatchContinuousConfig(width=16)),
}


@cache
def pictures() -> tuple[Tensor, Tensor]:
    train, held_out = load_packaged(size=32).split(0.1)
    return train.to_float(slice(0, 300)), held_out.to_float(slice(0, 60))


@cache
def fitted(family: str) -> PatchTokenizer:
    tokenizer = FAMILIES[family]()
    tokenizer.fit(pictures()[0], torch.Generator().manual_seed(0))
    return tokenizer


def psnr(shown: Tensor, real: Tensor) -> float:
    """Peak signal-to-noise ratio of pictures in [-1, 1], in decibels."""
    return float(10 * torch.log10(4 / (shown - real).square().mean()))


@pytest.mark.parametrize("family", FAMILIES)
def test_held_out_pictures_come_back(family: str) -> None:
    train, held_out = pictures()
    tokenizer = fitted(family)
    decoded = tokenizer.decode(tokenizer.encode(held_out))
    assert decoded.shape == held_out.shape and decoded.abs().max() <= 1
    baseline = psnr(train.mean(dim=0).expand_as(held_out), held_out)
    assert psnr(decoded, held_out) > baseline + 5


@pytest.mark.parametrize("family", FAMILIES)
def test_the_state_dict_holds_the_fit(family: str) -> None:
    tokenizer, held_out = fitted(family), pictures()[1][:4]
    copy = FAMILIES[family]()
    with pytest.raises(LimnerError, match="not fitted"):
        copy.encode(held_out)
    copy.load_state_dict(tokenizer.state_dict())
    assert torch.equal(
        copy.decode(copy.encode(held_out)), tokenizer.decode(tokenizer.encode(held_out))
    )


@pytest.mark.parametrize("family", FAMILIES)
def test_a_fit_depends_on_its_generator_alone(family: str) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        tokenizer = FAMILIES[family]()
        tokenizer.fit(pictures()[0][:60], torch.Generator().manual_seed(0))
        states.append(tokenizer.state_dict())
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("family", ["kmeans", "multiscale"])
def test_nearly_all_codes_are_used(family: str) -> None:
    ids = fitted(family).encode(pictures()[0]).ids
    assert ids is not None
    assert len(ids.unique()) > 0.9 * 128


def test_the_painter_hides_seams() -> None:
    """Decoding from neighbours beats drawing every patch by itself."""
    tokenizer, held_out = fitted("kmeans"), pictures()[1]
    tokens = tokenizer.encode(held_out)
    latents = tokenizer._read(tokens)
    linear = tokenizer.latents
    alone = torch.einsum("bdhw,dk->bkhw", latents, linear.basis) + linear.mean[:, None, None]
    alone = torch.nn.functional.pixel_shuffle(alone, linear.patch).clamp(-1, 1)
    assert psnr(tokenizer.decode(tokens), held_out) > psnr(alone, held_out) + 0.4


def test_continuous_latents_are_whitened() -> None:
    values = fitted("continuous").encode(pictures()[0]).values
    assert values is not None and values.shape == (300, 64, 16)
    flat = values.flatten(0, 1)
    assert flat.mean(dim=0).abs().max() < 1e-3
    torch.testing.assert_close(torch.cov(flat.T), torch.eye(16), atol=1e-2, rtol=0)


def test_all_components_lose_nothing() -> None:
    tokenizer = PatchContinuous(PatchContinuousConfig(width=48))
    tokenizer.fit(pictures()[0], torch.Generator().manual_seed(0))
    held_out = pictures()[1]
    assert psnr(tokenizer.decode(tokenizer.encode(held_out)), held_out) > 50


def test_grid_preview_is_grey_where_unknown_and_untouched_by_it() -> None:
    tokenizer = fitted("kmeans")
    tokens = tokenizer.encode(pictures()[1][:2])
    tokens.known[:, 32:] = False
    shown = tokenizer.preview(tokens)
    assert (shown[:, :, 16:] == 0).all() and (shown[:, :, :16] != 0).any()
    assert tokens.ids is not None
    tokens.ids[:, 32:] = 7
    assert torch.equal(tokenizer.preview(tokens), shown)


def test_pyramid_preview_sharpens_with_every_scale() -> None:
    tokenizer, held_out = fitted("multiscale"), pictures()[1]
    tokens = tokenizer.encode(held_out)
    quality = []
    for segment in range(len(tokens.layout.segments)):
        known = torch.zeros_like(tokens.known)
        known[:, : tokens.layout.span(segment).stop] = True
        shown = tokenizer.preview(Tokens(tokens.layout, tokens.ids, None, known))
        quality.append(psnr(shown, held_out))
    assert all(later > earlier for earlier, later in pairwise(quality))
    assert quality[-1] == pytest.approx(psnr(tokenizer.decode(tokens), held_out))


def test_the_sum_of_the_scales_nears_real_latents_while_mixed_up_ids_do_not() -> None:
    tokenizer, held_out = fitted("multiscale"), pictures()[1]
    assert isinstance(tokenizer, PatchMultiScale)
    latents, tokens = tokenizer.latents.encode(held_out), tokenizer.encode(held_out)
    assert tokens.ids is not None
    errors = []
    for scale in range(6):
        known = (torch.arange(130) < tokens.layout.span(scale).stop).expand(60, -1)
        prefix = Tokens(tokens.layout, tokens.ids, None, known)
        errors.append(float((tokenizer.quantizer.decode(prefix) - latents).square().mean()))
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert errors[-1] < 0.5 * errors[0]
    order = torch.randperm(130, generator=torch.Generator().manual_seed(0))
    mixed = Tokens(tokens.layout, tokens.ids[:, order], None, tokens.known)
    assert (tokenizer.quantizer.decode(mixed) - latents).square().mean() > 2 * errors[0]


def test_multiscale_is_its_own_canvas_and_saves_it_once() -> None:
    tokenizer = fitted("multiscale")
    tokens = tokenizer.encode(pictures()[1][:2])
    inputs, _ = tokenizer.canvas.teach(tokens)
    assert inputs is not None and inputs.shape == (2, 1 + 4 + 9 + 16 + 36 + 64, 8)
    assert not any(name.startswith("canvas") for name in tokenizer.state_dict())


def test_multiscale_layouts_stretch_or_are_given() -> None:
    tokenizer = FAMILIES["multiscale"]()
    assert len(tokenizer.layout(32, 32)) == 130
    assert tokenizer.layout(64, 32).segments[-1].size == (1, 16, 8)
    chosen = tokenizer.layout(32, 64, scales=[1, (4, 8), (8, 16)])
    assert [segment.size for segment in chosen.segments] == [(1, 1, 1), (1, 4, 8), (1, 8, 16)]
    with pytest.raises(ConfigError, match="8x8"):
        tokenizer.layout(32, 32, scales=[1, 2, 4])


def test_other_sizes_can_be_encoded_after_the_fit() -> None:
    large = load_packaged(size=48).to_float(slice(0, 4))
    for family in FAMILIES:
        tokenizer = fitted(family)
        assert psnr(tokenizer.decode(tokenizer.encode(large)), large) > 15


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="width=49"):
        PatchConfig(width=49)
    with pytest.raises(ConfigError, match="scales"):
        PatchMultiScaleConfig(scales=(1, 4, 2))
    rng = torch.Generator().manual_seed(0)
    with pytest.raises(ConfigError, match="30x32"):
        FAMILIES["kmeans"]().fit(torch.zeros(4, 3, 30, 32), rng)
    with pytest.raises(ConfigError, match="30x32"):
        fitted("kmeans").encode(torch.zeros(4, 3, 30, 32))
    with pytest.raises(DataError, match="one colour"):
        FAMILIES["continuous"]().fit(torch.ones(4, 3, 32, 32), rng)
    with pytest.raises(DataError, match="1 picture"):
        FAMILIES["continuous"]().fit(torch.zeros(1, 3, 32, 32), rng)


@pytest.mark.parametrize("name", ["patch-kmeans-32", "patch-multiscale-32", "patch-continuous-32"])
def test_variants_are_listed_and_built(name: str) -> None:
    tokenizer = TOKENIZERS.create(name)
    assert TOKENIZERS.family_of(tokenizer).name == name.removesuffix("-32")
    assert tokenizer.layout(32, 32).extent == (1, 8, 8)
