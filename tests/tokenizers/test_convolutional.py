"""The convolutional tokenizers: VQGAN with any quantiser, KL, VAR's, MaskGIT's; and BSQ-ViT."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.core.noise import SeededNoise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.hub.build import parameter_count, weightless
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.bsq_vit import BSQViT, BSQViTConfig
from limner.tokenizers.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig, Posterior
from limner.tokenizers.maskgit_vq import MaskGITVQ, MaskGITVQConfig
from limner.tokenizers.quantizers.bsq import BSQConfig
from limner.tokenizers.quantizers.build import VQConfig
from limner.tokenizers.quantizers.fsq import FSQConfig
from limner.tokenizers.quantizers.lfq import LFQConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig
from limner.tokenizers.quantizers.residual import ResidualVQConfig
from limner.tokenizers.var_vqvae import VARVQVAE, VARVQVAEConfig
from limner.tokenizers.vqgan import VQGAN, VQGANConfig

SMALL = ConvolutionConfig(channels=32, multipliers=(1, 1), blocks=1)
PLAIN = ConvolutionConfig(32, (1, 2), 1, encoder_attention=(), decoder_attention=())
VIT = StackConfig(16, 1, 2)

MAKERS = {
    "vq": lambda: VQGAN(VQGANConfig(SMALL, 8, VQConfig(codebook_size=32, width=4))),
    "residual": lambda: VQGAN(
        VQGANConfig(SMALL, 8, ResidualVQConfig(levels=3, codebook_size=32, width=4))
    ),
    "fsq": lambda: VQGAN(VQGANConfig(SMALL, 8, FSQConfig(levels=(5, 4)))),
    "lfq": lambda: VQGAN(VQGANConfig(SMALL, 8, LFQConfig(bits=3, groups=2))),
    "bsq": lambda: VQGAN(VQGANConfig(SMALL, 8, BSQConfig(bits=5))),
    "maskgit": lambda: MaskGITVQ(MaskGITVQConfig(PLAIN, 32, 8)),
    "var": lambda: VARVQVAE(VARVQVAEConfig(SMALL, MultiScaleConfig(32, 8), (1, 2, 4))),
    "bsq-vit": lambda: BSQViT(BSQViTConfig(8, 2, VIT, VIT, 24, BSQConfig(bits=6))),
}


@pytest.fixture(params=MAKERS)
def tokenizer(request: pytest.FixtureRequest) -> Tokenizer:
    torch.manual_seed(0)
    made: Tokenizer = MAKERS[request.param]()
    return made.eval()


def pictures() -> Tensor:
    return torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(1)) * 2 - 1


@torch.no_grad()
def test_ids_say_all_that_the_decoder_reads(tokenizer: Tokenizer) -> None:
    tokens = tokenizer.encode(pictures())
    assert tokens.ids is not None
    assert tokens.ids.shape == (2, len(tokens.layout), tokenizer.codes)
    assert tokens.ids.max() < tokenizer.codebook_size
    shown, quantized = tokenizer(pictures())
    torch.testing.assert_close(tokenizer.decode(tokens), shown.clamp(-1, 1), atol=1e-5, rtol=0)
    assert quantized.loss.isfinite()


def test_training_reaches_every_parameter(tokenizer: Tokenizer) -> None:
    shown, quantized = tokenizer.train()(pictures())
    ((shown - pictures()).square().mean() + quantized.loss).backward()
    for name, parameter in tokenizer.named_parameters():
        shared_by_other_scales = name.startswith("quantizer.phi")
        assert parameter.grad is not None or shared_by_other_scales, name


def test_configurations_survive_a_file(tokenizer: Tokenizer) -> None:
    family = TOKENIZERS.family_of(tokenizer)
    assert from_dict(family.config, to_dict(tokenizer.config)) == tokenizer.config


def test_sizes_that_do_not_fit_are_named(tokenizer: Tokenizer) -> None:
    with pytest.raises(ConfigError, match=r"9x8"):
        tokenizer.encode(torch.zeros(1, 3, 9, 8))


def test_published_counts() -> None:
    for variant in TOKENIZERS.variants():
        if isinstance(variant.published, int):
            with weightless():
                tokenizer = TOKENIZERS.create(variant.name)
            assert parameter_count(tokenizer) == variant.published, variant.name


@torch.no_grad()
def test_prefixes_of_scales_are_pictures_and_the_canvas_adds_them() -> None:
    torch.manual_seed(0)
    tokenizer = MAKERS["var"]().eval()
    tokens = tokenizer.encode(pictures())
    assert [segment.size[1:] for segment in tokens.layout.segments] == [(1, 1), (2, 2), (4, 4)]
    canvas: Any = None
    for scale in range(3):
        canvas = tokenizer.canvas.add(canvas, tokens, scale)
        known = torch.arange(len(tokens.layout)) < tokens.layout.span(scale).stop
        tokens.known[:] = known
        shown = tokenizer.decode_latents(canvas).clamp(-1, 1)
        torch.testing.assert_close(tokenizer.preview(tokens), shown, atol=1e-3, rtol=0)


@torch.no_grad()
def test_other_scales_and_oblong_pictures() -> None:
    tokenizer = MAKERS["var"]().eval()
    layout = tokenizer.layout(8, 12, scales=[(1, 1), (2, 3), (4, 6)])
    tokens = tokenizer.encode(torch.zeros(1, 3, 8, 12), layout=layout)
    assert tokens.ids is not None and tokens.ids.shape[1] == 1 + 6 + 24
    assert tokenizer.layout(8, 12).extent == (1, 4, 6)
    with pytest.raises(ConfigError, match="4x6"):
        tokenizer.layout(8, 12, scales=[1, 4])


def kl(patch: int = 1) -> KLAutoencoder:
    torch.manual_seed(0)
    return KLAutoencoder(KLAutoencoderConfig(SMALL, latent=3, scale=0.5, patch=patch)).eval()


@torch.no_grad()
def test_kl_tokens_are_scaled_latents() -> None:
    tokenizer = kl()
    tokens = tokenizer.encode(pictures())
    mean = tokenizer.posterior(pictures()).mean
    assert tokens.values is not None and tokens.values.shape == (2, 16, 3)
    torch.testing.assert_close(tokens.values[1, 5], 0.5 * mean[1, :, 1, 1])
    torch.testing.assert_close(tokenizer.latents(tokens), mean)
    shown = tokenizer.decode_latents(mean).clamp(-1, 1)
    torch.testing.assert_close(tokenizer.decode(tokens), shown)


@torch.no_grad()
def test_kl_noise_draws_from_the_posterior() -> None:
    tokenizer = kl()
    posterior = tokenizer.posterior(pictures())
    drawn = torch.stack(
        [tokenizer.latents(tokenizer.encode(pictures(), SeededNoise(k))) for k in range(100)]
    )
    normal = (drawn - posterior.mean) / posterior.deviation
    assert normal.mean().abs() < 0.05 and abs(normal.std() - 1) < 0.05
    assert not torch.equal(normal[:, 0], normal[:, 1])  # pictures of a batch have their own


@torch.no_grad()
def test_kl_patches_hold_squares_of_latents() -> None:
    whole, cut = kl(), kl(patch=2)
    cut.load_state_dict(whole.state_dict())
    tokens = cut.encode(pictures())
    assert tokens.values is not None and tokens.values.shape == (2, 4, 12) and cut.factor == 4
    torch.testing.assert_close(cut.latents(tokens), whole.posterior(pictures()).mean)


def test_divergence_is_that_of_the_distributions() -> None:
    mean, log_variance = torch.randn(2, 3, 2, 2), torch.randn(2, 3, 2, 2)
    posterior = Posterior.of(torch.cat([mean, log_variance], dim=1))
    normal = torch.distributions.Normal(mean, (0.5 * log_variance).exp())
    standard = torch.distributions.Normal(torch.zeros(()), torch.ones(()))
    wanted = torch.distributions.kl_divergence(normal, standard).flatten(1).sum(1)
    torch.testing.assert_close(posterior.divergence(), wanted)


def test_kl_training_reaches_every_parameter() -> None:
    tokenizer = kl().train()
    made = tokenizer.reconstruct(pictures(), torch.Generator().manual_seed(0))
    (made.pictures.square().mean() + made.loss).backward()
    assert all(parameter.grad is not None for parameter in tokenizer.parameters())
