"""Continuous latents as pyramids: of any autoencoder, with the finest scale to draw from."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.canvas import NoCanvas
from limner.core.errors import ConfigError
from limner.core.noise import SeededNoise
from limner.core.tokens import Tokens
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from limner.tokenizers.latent_pyramids import ResampledLatents, as_map, as_tokens, latent_layout
from limner.tokenizers.patches import PatchContinuous, PatchContinuousConfig

CONVOLUTION = ConvolutionConfig(32, (1, 2), 1, encoder_attention=(), decoder_attention=())


def pictures(count: int = 2) -> Tensor:
    return torch.rand(count, 3, 16, 16, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize("patch", [1, 2])
def test_an_autoencoder_gives_the_same_latents_on_a_grid_and_as_a_pyramid(patch: int) -> None:
    torch.manual_seed(0)
    flat = KLAutoencoder(KLAutoencoderConfig(CONVOLUTION, latent=4, patch=patch)).eval()
    tall = KLAutoencoder(replace(flat.config, scales=(1, 2, 8 // patch))).eval()
    tall.load_state_dict(flat.state_dict())
    grid, pyramid = (made.encode(pictures(), SeededNoise(0)) for made in (flat, tall))
    assert isinstance(flat.canvas, NoCanvas) and isinstance(tall.canvas, ResampledLatents)
    assert grid.values is not None and pyramid.values is not None
    assert torch.equal(pyramid.values[:, 5:], grid.values)
    torch.testing.assert_close(pyramid.values[:, 0], grid.values.mean(1))
    assert torch.equal(tall.decode(pyramid), flat.decode(grid))
    assert pyramid.layout.segments[-1].kind == "values"


def test_scales_are_averages_and_shown_from_the_finest_known() -> None:
    layout = latent_layout((1, 2, 4), 4, 8)
    assert [segment.size[1:] for segment in layout.segments] == [(1, 2), (2, 4), (4, 8)]
    latents = torch.randn(2, 3, 4, 8, generator=torch.Generator().manual_seed(0))
    tokens = as_tokens(latents, layout)
    assert tokens.values is not None
    halves = functional.avg_pool2d(functional.avg_pool2d(latents, 2), 2)
    torch.testing.assert_close(tokens.values[:, :2], halves.flatten(2).transpose(1, 2))
    assert torch.equal(as_map(tokens), latents)
    known = torch.zeros_like(tokens.known)
    known[0, :2] = known[1, :10] = True  # rows at different scales
    shown = as_map(Tokens(layout, None, tokens.values, known))
    for row, span, size in ((0, slice(0, 2), (1, 2)), (1, slice(2, 10), (2, 4))):
        maps = tokens.values[row : row + 1, span].transpose(1, 2).unflatten(2, size)
        wanted = functional.interpolate(maps, size=(4, 8), mode="bicubic")
        torch.testing.assert_close(shown[row : row + 1], wanted)


def test_the_canvas_teaches_what_drawing_reads() -> None:
    layout = latent_layout((1, 2, 4), 4, 4)
    tokens = as_tokens(torch.randn(2, 3, 4, 4), layout)
    canvas_of, canvas = ResampledLatents(), None
    taught, targets = canvas_of.teach(tokens)
    assert taught is not None and targets is tokens and not taught[:, 0].any()
    for segment in range(3):
        seen = canvas_of.read(canvas, tokens, segment)
        assert torch.equal(taught[:, layout.span(segment)], seen)
        canvas = canvas_of.add(canvas, tokens, segment)


def test_patches_preview_every_scale_and_bad_scales_are_named() -> None:
    tokenizer = PatchContinuous(PatchContinuousConfig(4, 8, scales=(1, 2, 4)))
    tokenizer.fit(pictures(30), torch.Generator().manual_seed(0))
    tokens = tokenizer.encode(pictures())
    whole = tokenizer.decode(tokens)
    tokens.known[:, 5:] = False
    assert tokenizer.preview(tokens).shape == whole.shape
    assert not torch.equal(tokenizer.preview(tokens), whole)
    for config in (KLAutoencoderConfig, PatchContinuousConfig):
        with pytest.raises(ConfigError, match="scales"):
            config(scales=(2, 1))
