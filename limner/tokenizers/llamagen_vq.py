"""LlamaGen's tokenizer: a convolutional autoencoder with a cosine codebook.

Sun et al., "Autoregressive model beats diffusion: Llama for scalable image generation", 2024
(arXiv 2406.06525); https://github.com/FoundationVision/LlamaGen
`tokenizer/tokenizer_image/vq_model.py`. Tokens stand on a raster grid, one code a place.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from limner.core.errors import check
from limner.core.registry import TOKENIZERS
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers.convolutional import ConvolutionalTokenizer
from limner.tokenizers.quantizers.codebook import Codebook


@dataclass(frozen=True)
class LlamaGenVQConfig:
    """Size of LlamaGen's tokenizer.

    Args:
        convolution: encoder and decoder.
        latent: channels between the autoencoder and the projections around the codebook.
        codebook_size: V.
        codebook_width: D of a code.
        normalize: compare directions of latents and codes (as published).
        commitment: weight of the commitment loss.
        entropy: weight of the entropy loss (0 as published).
    """

    convolution: ConvolutionConfig = field(default_factory=ConvolutionConfig)
    latent: int = 256
    codebook_size: int = 16384
    codebook_width: int = 8
    normalize: bool = True
    commitment: float = 0.25
    entropy: float = 0.0

    def __post_init__(self) -> None:
        check(self.latent > 0, "latent", self.latent, "at least 1")
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.codebook_width > 0, "codebook_width", self.codebook_width, "at least 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")
        check(self.entropy >= 0, "entropy", self.entropy, "0 or more")


@TOKENIZERS.family("llamagen-vq", LlamaGenVQConfig)
class LlamaGenVQ(ConvolutionalTokenizer):
    """Pictures to a grid of codes and back.

    Args:
        config: its size.
    """

    config: LlamaGenVQConfig
    quantizer: Codebook
    mixes = True

    def __init__(self, config: LlamaGenVQConfig) -> None:
        codebook = Codebook(
            config.codebook_size,
            config.codebook_width,
            config.normalize,
            config.commitment,
            config.entropy,
        )
        super().__init__(config.convolution, config.latent, codebook)
        self.config = config


TOKENIZERS.variant("llamagen-vq-16", "llamagen-vq", LlamaGenVQConfig(), published="72M")
TOKENIZERS.variant(
    "llamagen-vq-8",
    "llamagen-vq",
    LlamaGenVQConfig(ConvolutionConfig(multipliers=(1, 2, 2, 4))),
    published="70M",
)
