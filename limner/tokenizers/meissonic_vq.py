"""Meissonic's tokenizer: a convolutional autoencoder without attention, over pictures in [0, 1].

Bai et al., "Meissonic", arXiv:2410.08261; facts from src/pipeline.py of viiika/Meissonic and
models/autoencoders/vq_model.py of huggingface/diffusers 0.31.0. As every tokenizer, this one takes
and gives pictures in [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from limner.core.errors import check
from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers.convolutional import ConvolutionalTokenizer
from limner.tokenizers.quantizers.codebook import Codebook


def _published() -> ConvolutionConfig:
    return ConvolutionConfig(
        multipliers=(1, 2, 2, 4, 6),
        encoder_attention=(),
        decoder_attention=(),
        middle_attention=False,
    )


@dataclass(frozen=True)
class MeissonicVQConfig:
    """Size of Meissonic's tokenizer.

    Args:
        convolution: encoder and decoder.
        latent: channels between the autoencoder and the projections around the codebook.
        codebook_size: V.
        codebook_width: D of a code.
        commitment: weight of the loss that draws latents to their codes.
        pull: weight of the loss that draws codes to their latents.
    """

    convolution: ConvolutionConfig = field(default_factory=_published)
    latent: int = 64
    codebook_size: int = 8192
    codebook_width: int = 64
    commitment: float = 1.0
    pull: float = 0.25

    def __post_init__(self) -> None:
        for name in ("latent", "codebook_size", "codebook_width"):
            check(getattr(self, name) > 0, name, getattr(self, name), "at least 1")
        for name in ("commitment", "pull"):
            check(getattr(self, name) >= 0, name, getattr(self, name), "0 or more")


@TOKENIZERS.family("meissonic-vq", MeissonicVQConfig)
class MeissonicVQ(ConvolutionalTokenizer):
    """Pictures to a grid of codes and back.

    Args:
        config: its size.
    """

    config: MeissonicVQConfig
    quantizer: Codebook

    def __init__(self, config: MeissonicVQConfig) -> None:
        codebook = Codebook(
            config.codebook_size,
            config.codebook_width,
            commitment=config.commitment,
            pull=config.pull,
        )
        super().__init__(config.convolution, config.latent, codebook)
        self.config = config

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        return super().encode_latents((pictures + 1) / 2)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        return 2 * super().decode_latents(latents) - 1


TOKENIZERS.variant("meissonic-vq-16", "meissonic-vq", MeissonicVQConfig(), published=146_244_675)
