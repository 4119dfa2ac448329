"""VQGAN: the convolutional autoencoder with a codebook that most grid tokenizers descend from.

Esser et al., "Taming transformers for high-resolution image synthesis", CVPR 2021
(arXiv:2012.09841); https://github.com/CompVis/taming-transformers `taming/models/vqgan.py`. Any
quantiser may take the codebook's place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from limner.core.errors import check
from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers.convolutional import ConvolutionalTokenizer
from limner.tokenizers.quantizers.build import QuantizerConfig, VQConfig, build_quantizer


@dataclass(frozen=True)
class VQGANConfig:
    """Size of a VQGAN.

    Args:
        convolution: encoder and decoder.
        latent: channels between the autoencoder and the 1x1 convolutions around the quantiser.
        quantizer: told apart by its `kind`: "vq", "residual", "fsq", "lfq" or "bsq".
    """

    convolution: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    latent: int = 256
    quantizer: QuantizerConfig = field(default_factory=VQConfig)

    def __post_init__(self) -> None:
        check(self.latent > 0, "latent", self.latent, "at least 1")


@TOKENIZERS.family("vqgan", VQGANConfig)
class VQGAN(ConvolutionalTokenizer):
    """Pictures to a grid of ids and back.

    Args:
        config: its size.
    """

    config: VQGANConfig

    def __init__(self, config: VQGANConfig) -> None:
        super().__init__(config.convolution, config.latent, build_quantizer(config.quantizer))
        self.config = config


def published_config(
    codebook_size: int,
    width: int = 256,
    multipliers: tuple[int, ...] = (1, 1, 2, 2, 4),
    latent: int = 256,
) -> VQGANConfig:
    """Return a configuration with the losses that all published weights were trained with.

    Their codebook term is scaled by 0.25 and their commitment term is not.
    """
    quantizer = VQConfig(codebook_size=codebook_size, width=width, commitment=1.0, pull=0.25)
    return VQGANConfig(ConvolutionConfig(multipliers=multipliers), latent, quantizer)


def _register_variants() -> None:
    latent_diffusion = published_config(16384, 4, (1, 2, 2, 4), latent=4)
    published: dict[str, tuple[VQGANConfig, str | int]] = {
        "vqgan-imagenet-f16-1024": (published_config(1024), 72_141_699),
        "vqgan-imagenet-f16-16384": (published_config(16384), 76_073_859),
        "vqgan-openimages-f16-8192": (published_config(8192), 73_976_707),
        "vqgan-latent-diffusion-f8": (latent_diffusion, "67.7M"),
    }
    for name, (config, count) in published.items():
        TOKENIZERS.variant(name, "vqgan", config, count)


_register_variants()
