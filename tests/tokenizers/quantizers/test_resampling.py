"""Resampling between scales: what a band of frequencies is."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from limner.core.layout import pyramid
from limner.core.tokens import Tokens
from limner.data.packaged import load_packaged
from limner.tokenizers.patch_latents import PatchLatents
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer
from limner.tokenizers.quantizers.resampling import RESAMPLINGS, fourier_down, fourier_up

FOURIER = RESAMPLINGS["fourier"]
SIZES = ((1, 1), (2, 3), (3, 4), (6, 8))


def maps(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@pytest.mark.parametrize("length", [6, 7, 8])
@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 6])
def test_up_and_down_again_is_nothing(length: int, size: int) -> None:
    there, back = fourier_up(length, size), fourier_down(length, size)
    torch.testing.assert_close(back @ there, torch.eye(size).double())
    ones = torch.ones(length, 1).double()
    torch.testing.assert_close(back @ ones, torch.ones(size, 1).double())  # constants stay
    torch.testing.assert_close(there @ torch.ones(size, 1).double(), ones)


def test_a_band_is_a_projection_on_low_frequencies() -> None:
    given = maps(2, 3, 6, 8)
    for size in SIZES:
        band = FOURIER.band(given, size)
        torch.testing.assert_close(FOURIER.band(band, size), band)
        spectrum = torch.fft.fft2(band).abs().amax((0, 1))
        rows, columns = (torch.fft.fftfreq(n, 1 / n).abs() for n in (6, 8))
        above = (rows[:, None] > size[0] / 2) | (columns > size[1] / 2)
        assert spectrum[above].numel() == 0 or spectrum[above].max() < 1e-9
        assert spectrum[~above].min() > 1e-3
    assert torch.equal(FOURIER.band(given, (6, 8)), given)


def test_half_precision_around_it_changes_nothing() -> None:
    given = maps(2, 3, 6, 8).float()
    plain = FOURIER.up(FOURIER.down(given, (2, 3)), (6, 8))
    with torch.autocast("cpu", torch.bfloat16):
        within = FOURIER.up(FOURIER.down(given, (2, 3)), (6, 8))
    assert within.dtype == torch.float32 and torch.equal(within, plain)


def test_a_wave_that_a_grid_carries_is_kept_exactly() -> None:
    place = torch.arange(8).double()
    wave = torch.cos(2 * torch.pi * place / 8 + 0.3).expand(1, 1, 8, 8)
    torch.testing.assert_close(FOURIER.band(wave, (1, 3)), wave)
    coarse = FOURIER.down(wave, (1, 4))
    torch.testing.assert_close(coarse, wave[..., :1, ::2])  # sample 0 stays sample 0
    fast = torch.cos(2 * torch.pi * 3 * place / 8).expand(1, 1, 8, 8)
    assert FOURIER.down(fast, (4, 4)).abs().max() < 1e-9  # no aliasing


@pytest.mark.parametrize("ratio", [0.0, 0.5])
def test_after_every_band_nothing_is_above_it(ratio: float) -> None:
    torch.manual_seed(0)
    config = MultiScaleConfig(16, 3, phi_count=2, phi_ratio=ratio, resampling="fourier")
    module = MultiScaleQuantizer(config).double().requires_grad_(False)
    torch.nn.init.normal_(module.codebook.weight)
    layout = pyramid(SIZES)
    tokens = module.encode(maps(2, 3, 6, 8), layout)
    canvas, taught = None, module.teach(tokens)[0]
    assert taught is not None
    for segment, size in enumerate(SIZES):
        assert torch.equal(module.read(canvas, tokens, segment), taught[:, layout.span(segment)])
        canvas = module.add(canvas, tokens, segment)
        torch.testing.assert_close(FOURIER.band(canvas, size), canvas)
    torch.testing.assert_close(module.decode(tokens), canvas)


def test_training_pulls_every_canvas_to_its_band() -> None:
    torch.manual_seed(0)
    module = MultiScaleQuantizer(MultiScaleConfig(16, 3, 1, 0.0, resampling="fourier")).double()
    layout, latents = pyramid(SIZES), maps(2, 3, 6, 8)
    found = module(latents, layout).losses["vq"]
    tokens, canvas, errors = module.encode(latents, layout), None, []
    for segment, size in enumerate(SIZES):
        canvas = module.add(canvas, tokens, segment)
        errors.append((canvas - FOURIER.band(latents, size)).square().mean())
    torch.testing.assert_close(found, torch.stack(errors).mean())


BANDS = (1, 2, 3, 4, 6, 8)


@pytest.fixture(scope="module")
def banded() -> tuple[PatchMultiScale, Tensor]:
    """A tokenizer of bands that is fitted to real pictures, and others, float [60, 3, 32, 32]."""
    train, held_out = load_packaged(size=32).split(0.1)
    config = PatchMultiScaleConfig(width=8, codebook_size=128, scales=BANDS, resampling="fourier")
    tokenizer = PatchMultiScale(config)
    tokenizer.fit(train.to_float(slice(0, 300)), torch.Generator().manual_seed(0))
    return tokenizer, held_out.to_float(slice(0, 60))


def previews(tokenizer: PatchMultiScale, tokens: Tokens) -> Iterator[Tensor]:
    """Yield what the tokens show after every band."""
    for segment in range(len(BANDS)):
        known = torch.zeros_like(tokens.known)
        known[:, : tokens.layout.span(segment).stop] = True
        yield tokenizer.preview(Tokens(tokens.layout, tokens.ids, None, known))


def test_bands_of_real_pictures(banded: tuple[PatchMultiScale, Tensor]) -> None:
    """Low bands hold most of the energy in few tokens; previews never lose by a band."""
    tokenizer, pictures = banded
    latents = tokenizer.latents.encode(pictures)
    energy = FOURIER.band(latents, (3, 3)).square().sum() / latents.square().sum()
    white = FOURIER.band(maps(*latents.shape), (3, 3)).square().mean()
    assert energy > 2 * white and energy > 0.4  # three of six bands, 14 of 130 tokens
    tokens = tokenizer.encode(pictures)
    whole, errors, sharp = tokenizer.decode(tokens), [], []
    for shown in previews(tokenizer, tokens):
        errors.append(float((shown - whole).square().mean()))
        low = torch.nn.functional.avg_pool2d(shown, 8)
        sharp.append(float((shown - low.repeat_interleave(8, -1).repeat_interleave(8, -2)).std()))
    assert all(later < earlier for earlier, later in pairwise(errors))
    assert sharp[-1] > 1.5 * sharp[0]


def test_four_of_ten_bands_hold_most_of_real_pictures() -> None:
    """In 30 of 680 tokens; of white noise they hold about as little as they are."""
    train, held_out = load_packaged(size=64).split(0.1)
    latents = PatchLatents(3, 4, 8)
    latents.fit(train.to_float(slice(0, 400)))
    found = latents.encode(held_out.to_float(slice(0, 60))).double()
    noise = maps(*found.shape)
    shares = [
        float(FOURIER.band(each, (4, 4)).square().sum() / each.square().sum())
        for each in (found, noise)
    ]
    assert shares[0] > 0.5 and shares[1] < 0.08


def test_previews_grow_sharper_with_every_band(banded: tuple[PatchMultiScale, Tensor]) -> None:
    """Fast waves come with later bands; those of sizes 2 and 3 carry the same ones."""
    tokenizer, pictures = banded
    frequency = torch.fft.fftfreq(32, 1 / 32).abs()
    high = torch.maximum(frequency[:, None], frequency) > 5
    energies = [
        float(torch.fft.fft2(shown)[..., high].abs().square().mean())
        for shown in previews(tokenizer, tokenizer.encode(pictures))
    ]
    risen = [energy for size, energy in zip(BANDS, energies, strict=True) if size != 2]
    assert all(later > 1.1 * earlier for earlier, later in pairwise(risen))
