"""Infinity's autoencoder with bits, and the tokenizer of bits that is fitted in seconds."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.core.seeds import seeded
from limner.core.tokens import Tokens
from limner.data import load_packaged
from limner.hub.build import parameter_count, weightless
from limner.tokenizers.infinity_vae import PLAIN, InfinityVAE, InfinityVAEConfig
from limner.tokenizers.patch_bits import PatchBits, PatchBitsConfig
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBitsConfig

SMALL = replace(PLAIN, channels=32, multipliers=(1, 1), blocks=1)


def small(patch: int = 1, **changes) -> InfinityVAE:
    torch.manual_seed(0)
    quantizer = MultiScaleBitsConfig(width=6, patch=patch)
    config = InfinityVAEConfig(SMALL, quantizer, scales=(1, 2, 4))
    return InfinityVAE(replace(config, **changes)).eval()


@pytest.mark.parametrize(
    ("name", "count"), [("infinity-vae-d32", 110_118_051), ("infinity-vae-d56", 81_624_209)]
)
def test_published_parameter_counts(name, count):
    variant = TOKENIZERS.get_variant(name)
    with weightless():
        tokenizer = InfinityVAE(variant.config)
    assert parameter_count(tokenizer) == count == variant.published
    assert tokenizer.factor == 16
    assert [len(tokenizer.layout(side, side)) for side in (256, 1024)] == [521, 10521]


@pytest.mark.parametrize("patch", [1, 2])
def test_pictures_become_bits_and_any_prefix_of_scales_shows_something(patch):
    tokenizer = small(patch)
    side = 8 * patch
    pictures = torch.rand(2, 3, side, side, generator=torch.Generator().manual_seed(0)) * 2 - 1
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None and tokens.ids.shape == (2, 21, 6 * patch**2)
    assert set(tokens.ids.unique().tolist()) == {0, 1}
    shown = tokenizer.decode(tokens)
    assert shown.shape == pictures.shape and shown.abs().max() <= 1
    coarse = Tokens(tokens.layout, tokens.ids, None, (torch.arange(21) < 5).expand(2, -1))
    assert not torch.equal(tokenizer.preview(coarse), shown)
    changed = tokens.clone()
    changed.ids[:, 5:] ^= 1  # what is not known does not matter
    unknown = Tokens(tokens.layout, changed.ids, None, coarse.known)
    assert torch.equal(tokenizer.preview(coarse), tokenizer.preview(unknown))


def test_training_reaches_the_encoder():
    tokenizer = small().train()
    made = tokenizer.reconstruct(torch.rand(2, 3, 8, 8) * 2 - 1)
    (made.pictures.square().mean() + made.loss).backward()
    assert tokenizer.encoder.conv_in.weight.grad.abs().sum() > 0
    assert made.ids.shape == made.vectors.shape == (2, 21, 6)


def test_sizes_are_those_of_templates():
    tokenizer = small(scales=())
    assert len(tokenizer.layout(2 * 21, 2 * 14).segments) == 7
    for size, message in (((2 * 22, 2 * 14), "21x14 is the nearest"), ((33, 32), "multiples of 2")):
        with pytest.raises(ConfigError, match=message):
            tokenizer.layout(*size)
    with pytest.raises(ConfigError, match="halvings"):
        replace(SMALL, halvings=2)


def test_bits_are_fitted_to_patches():
    rng = torch.Generator().manual_seed(0)
    coarse = torch.rand(24, 3, 8, 8, generator=rng) * 2 - 1
    pictures = torch.nn.functional.interpolate(coarse, scale_factor=4, mode="bicubic").clamp(-1, 1)
    tokenizer = PatchBits(PatchBitsConfig(width=12))
    tokenizer.fit(pictures, seeded(0, "fit"))
    tokens = tokenizer.encode(pictures)
    assert tokens.ids is not None and tokens.ids.shape == (24, 130, 12)
    share = tokens.ids.float().mean((0, 1))
    assert share.min() > 0.4 and share.max() < 0.6  # every bit says something
    error = (tokenizer.decode(tokens) - pictures).square().mean()
    assert error < 0.5 * (pictures - pictures.mean(0)).square().mean()


def test_less_is_left_of_real_pictures_with_every_scale() -> None:
    train, held_out = load_packaged(size=32).split(0.1)
    tokenizer = PatchBits(PatchBitsConfig())
    tokenizer.fit(train.to_float(slice(0, 300)), seeded(0, "fit"))
    seen = held_out.to_float(slice(0, 60))
    latents = torch.einsum("ij,bjhw->bihw", tokenizer.turn, tokenizer.latents.encode(seen))
    tokens = tokenizer.encode(seen)
    left = [float(latents.norm())]
    for scale in range(len(tokens.layout.segments)):
        known = (torch.arange(130) < tokens.layout.span(scale).stop).expand(60, -1)
        prefix = Tokens(tokens.layout, tokens.ids, None, known)
        left.append(float((latents - tokenizer.quantizer.decode(prefix)).norm()))
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.7 * left[0]
