"""Infinity's tokenizer: a convolutional autoencoder whose latents are a pyramid of bits.

Han et al., "Infinity: Scaling Bitwise AutoRegressive Modeling for High-Resolution Image Synthesis",
arXiv:2412.04431; facts from infinity/models/bsq_vae/{vae,flux_vqgan}.py of StargazerX0/ScaleKV, a
copy of FoundationVision's. The autoencoder is FLUX's without attention, and without convolutions
around the quantiser, which is the canvas of the generator.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from limner.core.layout import Layout, pyramid
from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvDecoder, ConvEncoder, ConvolutionConfig
from limner.orders.aspect_ratios import template_scales
from limner.tokenizers.pyramids import ConvolutionalScales
from limner.tokenizers.quantizers.multiscale import check_scales
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits, MultiScaleBitsConfig

PLAIN = ConvolutionConfig(
    multipliers=(1, 2, 4, 4, 4),
    encoder_attention=(),
    decoder_attention=(),
    middle_attention=False,
)


@dataclass(frozen=True)
class InfinityVAEConfig:
    """Size of Infinity's tokenizer.

    Args:
        convolution: encoder and decoder.
        quantizer: its width is that of the latents.
        scales: sizes of the square scales, coarse to fine; other grids stretch them; none: those of
            the published templates, and no other pictures than theirs.
    """

    convolution: ConvolutionConfig = PLAIN
    quantizer: MultiScaleBitsConfig = field(default_factory=MultiScaleBitsConfig)
    scales: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.scales:
            check_scales(self.scales)


@TOKENIZERS.family("infinity-vae", InfinityVAEConfig)
class InfinityVAE(ConvolutionalScales):
    """Pictures to a pyramid of bits and back.

    Module names: `encoder`, `decoder`; the quantiser has no weights.

    Args:
        config: its size.
    """

    config: InfinityVAEConfig
    quantizer: MultiScaleBits
    codebook_size = 2

    def __init__(self, config: InfinityVAEConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = config.convolution.pictures
        self.codes = config.quantizer.bits
        self.factor = config.convolution.factor * config.quantizer.patch
        self.encoder = ConvEncoder(config.convolution, config.quantizer.width)
        self.quantizer = MultiScaleBits(config.quantizer)
        self.decoder = ConvDecoder(config.convolution, config.quantizer.width)

    def layout(
        self,
        height: int,
        width: int,
        frames: int = 1,
        scales: Sequence[int | tuple[int, int]] | None = None,
        **schedule: Any,
    ) -> Layout:
        """Return the pyramid of a picture of this size; see `picture_pyramid` for `scales`.

        Raises:
            ConfigError: the size is no multiple of `factor`, or that of no template.
        """
        if scales is not None or self.config.scales:
            return super().layout(height, width, frames, scales)
        self.check_size(height, width)
        return pyramid(template_scales(height // self.factor, width // self.factor))


TOKENIZERS.variant("infinity-vae-d32", "infinity-vae", InfinityVAEConfig(), 110_118_051)
TOKENIZERS.variant(
    "infinity-vae-d56",
    "infinity-vae",
    InfinityVAEConfig(
        replace(PLAIN, multipliers=(1, 2, 4, 4)), MultiScaleBitsConfig(width=14, patch=2)
    ),
    81_624_209,
)
