"""The KL autoencoder of latent diffusion and MAR: continuous latents with a Gaussian posterior.

Rombach et al., "High-resolution image synthesis with latent diffusion models", CVPR 2022
(arXiv:2112.10752); Li et al., "Autoregressive image generation without vector quantization",
arXiv:2406.11838; https://github.com/LTH14/mar `models/vae.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.canvas import Canvas, NoCanvas
from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.layers.convolution import ConvDecoder, ConvEncoder, ConvolutionConfig
from limner.layers.patchify import unpatchify
from limner.tokenizers.latent_pyramids import (
    ResampledLatents,
    as_map,
    as_tokens,
    latent_layout,
)
from limner.tokenizers.quantizers.multiscale import check_scales
from limner.tokenizers.reconstruction import Reconstruction


@dataclass(frozen=True)
class KLAutoencoderConfig:
    """Size of a KL autoencoder.

    Args:
        convolution: encoder and decoder.
        latent: channels of the latents.
        scale: tokens are latents times this, which makes their variance about 1.
        patch: side of the square of latents that one token holds.
        scales: the tokens are a pyramid of these sizes, coarse to fine, see
            `limner.tokenizers.latent_pyramids`; none: one grid.
    """

    convolution: ConvolutionConfig = field(
        default_factory=lambda: ConvolutionConfig(decoder_attention=())
    )
    latent: int = 16
    scale: float = 0.2325
    patch: int = 1
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.scales:
            check_scales(self.scales)
        check(self.latent > 0, "latent", self.latent, "at least 1")
        check(self.scale > 0, "scale", self.scale, "above 0")
        check(self.patch > 0, "patch", self.patch, "at least 1")


@dataclass(frozen=True)
class Posterior:
    """A Gaussian of latents whose channels are independent.

    Args:
        mean: float [B, D, h, w].
        log_variance: float [B, D, h, w], clamped to -30 .. 20.
    """

    mean: Tensor
    log_variance: Tensor

    @staticmethod
    def of(moments: Tensor) -> Posterior:
        """Return the posterior of moments [B, 2 D, h, w]: means, then logarithms of variances."""
        mean, log_variance = moments.chunk(2, dim=1)
        return Posterior(mean, log_variance.clamp(-30.0, 20.0))

    @property
    def deviation(self) -> Tensor:
        """Standard deviations, float [B, D, h, w]."""
        return torch.exp(0.5 * self.log_variance)

    def sample(self, normal: Tensor) -> Tensor:
        """Return the sample that standard normal numbers [B, D, h, w] stand for."""
        return self.mean + self.deviation * normal

    def divergence(self) -> Tensor:
        """Return the Kullback-Leibler divergence from the standard normal, in nats, float [B]."""
        variance = self.log_variance.exp()
        terms = self.mean.square() + variance - 1.0 - self.log_variance
        return 0.5 * terms.flatten(1).sum(dim=1)


@TOKENIZERS.family("kl-autoencoder", KLAutoencoderConfig)
class KLAutoencoder(Tokenizer):
    """Pictures to scaled continuous latents on a raster grid, and back.

    Args:
        config: its size.
    """

    config: KLAutoencoderConfig
    quantizer = None

    def __init__(self, config: KLAutoencoderConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = config.convolution.pictures
        self.width = config.latent * config.patch**2
        self.factor = config.convolution.factor * config.patch
        self.encoder = ConvEncoder(config.convolution, 2 * config.latent)
        self.quant_conv = nn.Conv2d(2 * config.latent, 2 * config.latent, 1)
        self.post_quant_conv = nn.Conv2d(config.latent, config.latent, 1)
        self.decoder = ConvDecoder(config.convolution, config.latent)

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid, or the pyramid, of a picture of this size."""
        self.check_size(height, width)
        rows, columns = height // self.factor, width // self.factor
        return latent_layout(self.config.scales, rows, columns, frames)

    @property
    def canvas(self) -> Canvas:  # type: ignore[override]
        """For a pyramid, the scale drawn last."""
        return ResampledLatents() if self.config.scales else NoCanvas()

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the tokens of pictures [B, channels, H, W].

        Args:
            noise: draws the latents from their posterior, under the purpose "posterior"; the
                finest tokens of picture b are numbered from b N. None: the posterior's means.
        """
        layout = self.layout(*pictures.shape[-2:])
        posterior = self.posterior(pictures)
        latents = posterior.mean
        if noise is not None:
            count = len(layout.segments[-1])
            places = torch.arange(len(pictures) * count)
            normal = noise.normal("posterior", places, 0, (self.width,)).to(latents)
            size = layout.extent[1:]
            given = unpatchify(normal.unflatten(0, (-1, count)), *size, self.config.patch)
            latents = posterior.sample(given)
        patches = functional.pixel_unshuffle(self.config.scale * latents, self.config.patch)
        return as_tokens(patches, layout)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]."""
        return self.decode_latents(self.latents(tokens)).clamp(-1, 1)

    def posterior(self, pictures: Tensor) -> Posterior:
        """Return the posterior of the latents of pictures [B, channels, H, W]."""
        return Posterior.of(self.moments(pictures))

    def moments(self, pictures: Tensor) -> Tensor:
        """Return means and logarithms of variances, float [B, 2 D, h, w]."""
        moments: Tensor = self.quant_conv(self.encoder(pictures))
        return moments

    def latents(self, tokens: Tokens, scaled: bool = False) -> Tensor:
        """Return the latents of tokens as a map, float [B, D, h, w]; of a pyramid, its last scale.

        Args:
            scaled: as the tokens hold them; otherwise as the decoder reads them.
        """
        maps = functional.pixel_shuffle(as_map(tokens), self.config.patch)
        return maps if scaled else maps / self.config.scale

    def preview(self, tokens: Tokens) -> Tensor:
        """Return what the known tokens say; of a pyramid, its finest known scale."""
        return self.decode(tokens) if self.config.scales else super().preview(tokens)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of latents [B, D, h, w], not clamped."""
        pictures: Tensor = self.decoder(self.post_quant_conv(latents))
        return pictures

    @torch.no_grad()
    def calibrate(self, pictures: Tensor) -> None:
        """Set the scale at which the tokens of pictures [B, channels, H, W] have variance 1."""
        deviation = self.posterior(pictures).mean.std()
        self.config = replace(self.config, scale=1 / max(float(deviation), 1e-6))

    @property
    def last_layer(self) -> Tensor:
        """Weights of the layer that makes the pixels."""
        return self.decoder.conv_out.weight

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send pictures [B, channels, H, W] through drawn latents and back, as training needs it.

        The loss "kl" is the divergence from the standard normal by pixel value, so that its weight
        is that of a sum over the picture beside the sum of its pixels' errors.

        Args:
            rng: draws the latents; None: their means.
        """
        self.check_size(*pictures.shape[-2:])
        posterior = self.posterior(pictures)
        latents = posterior.mean
        if rng is not None:
            normal = torch.randn(latents.shape, generator=rng).to(latents)
            latents = posterior.sample(normal)
        loss = posterior.divergence().mean() / pictures[0].numel()
        return Reconstruction(self.decode_latents(latents), {"kl": loss})


TOKENIZERS.variant("kl-16", "kl-autoencoder", KLAutoencoderConfig(), published="66M")
TOKENIZERS.variant(
    "kl-8",
    "kl-autoencoder",
    KLAutoencoderConfig(
        ConvolutionConfig(multipliers=(1, 2, 4, 4), encoder_attention=(), decoder_attention=()),
        latent=4,
        scale=0.18215,
    ),
    published="84M",
)
