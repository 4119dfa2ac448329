"""VAR's tokenizer: a convolutional autoencoder whose latents are a pyramid of residual codes.

Tian et al., "Visual autoregressive modeling: scalable image generation via next-scale prediction",
2024 (arXiv:2404.02905); https://github.com/FoundationVision/VAR `models/vqvae.py`. Its quantiser is
the canvas of next-scale models.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor, nn

from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvDecoder, ConvEncoder, ConvolutionConfig
from limner.tokenizers.pyramids import ConvolutionalScales, PyramidTokenizer
from limner.tokenizers.quantizers.multiscale import (
    MultiScaleConfig,
    MultiScaleQuantizer,
    check_scales,
)


@dataclass(frozen=True)
class VARVQVAEConfig:
    """Size of VAR's tokenizer.

    Args:
        convolution: encoder and decoder.
        quantizer: its width is that of the latents.
        scales: sizes of the square scales, coarse to fine; other grids stretch them.
    """

    convolution: ConvolutionConfig = field(default_factory=lambda: ConvolutionConfig(channels=160))
    quantizer: MultiScaleConfig = field(default_factory=MultiScaleConfig)
    scales: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 8, 10, 13, 16)

    def __post_init__(self) -> None:
        check_scales(self.scales)


@TOKENIZERS.family("var-vqvae", VARVQVAEConfig)
class VARVQVAE(ConvolutionalScales, PyramidTokenizer):
    """Pictures to a pyramid of codes and back.

    Module names: `encoder`, `quant_conv` (3x3), `quantizer`, `post_quant_conv` (3x3), `decoder`.

    Args:
        config: its size.
    """

    config: VARVQVAEConfig
    codes = 1

    def __init__(self, config: VARVQVAEConfig) -> None:
        super().__init__()
        width = config.quantizer.width
        self.config = config
        self.channels = config.convolution.pictures
        self.codebook_size = config.quantizer.codebook_size
        self.factor = config.convolution.factor
        self.encoder = ConvEncoder(config.convolution, width)
        self.quant_conv = nn.Conv2d(width, width, 3, padding=1)
        self.quantizer = MultiScaleQuantizer(config.quantizer, len(config.scales))
        self.post_quant_conv = nn.Conv2d(width, width, 3, padding=1)
        self.decoder = ConvDecoder(config.convolution, width)

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        latents: Tensor = self.quant_conv(self.encoder(pictures))
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        pictures: Tensor = self.decoder(self.post_quant_conv(latents))
        return pictures


TOKENIZERS.variant("var-vqvae", "var-vqvae", VARVQVAEConfig(), published=108_948_355)
