"""LlamaGen's tokenizer: a convolutional autoencoder with a cosine codebook.

Sun et al., "Autoregressive model beats diffusion: Llama for scalable image generation", 2024
(arXiv 2406.06525); https://github.com/FoundationVision/LlamaGen
`tokenizer/tokenizer_image/vq_model.py`. Tokens stand on a raster grid, one code a place.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.layers.convolution import ConvDecoder, ConvEncoder, ConvolutionConfig
from limner.tokenizers.quantizers.codebook import Codebook, Quantized


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
class LlamaGenVQ(Tokenizer):
    """Pictures to a grid of codes and back.

    Args:
        config: its size.
    """

    config: LlamaGenVQConfig
    codes = 1

    def __init__(self, config: LlamaGenVQConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = config.convolution.pictures
        self.codebook_size = config.codebook_size
        self.factor = config.convolution.factor
        self.encoder = ConvEncoder(config.convolution, config.latent)
        self.quant_conv = nn.Conv2d(config.latent, config.codebook_width, 1)
        self.codebook = Codebook(
            config.codebook_size,
            config.codebook_width,
            config.normalize,
            config.commitment,
            config.entropy,
        )
        self.post_quant_conv = nn.Conv2d(config.codebook_width, config.latent, 1)
        self.decoder = ConvDecoder(config.convolution, config.latent)

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid of a picture of this size."""
        self.check_size(height, width)
        return grid(height // self.factor, width // self.factor, frames)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the ids of pictures [B, channels, H, W]."""
        layout = self.layout(*pictures.shape[-2:])
        latents = self.encode_latents(pictures)
        return from_ids(layout, self.codebook.nearest(latents.movedim(1, -1)).flatten(1))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]."""
        return self.decode_latents(self.lookup(tokens)).clamp(-1, 1)

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        return self.quant_conv(self.encoder(pictures))

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        return self.decoder(self.post_quant_conv(latents))

    def lookup(self, tokens: Tokens) -> Tensor:
        """Return the codes of tokens as a map, float [B, D, h, w]."""
        assert tokens.ids is not None
        rows, columns = tokens.layout.extent[1:]
        codes = self.codebook.lookup(tokens.ids.squeeze(-1))
        return codes.unflatten(1, (rows, columns)).movedim(-1, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the codebook made of the latents.

        The quantised values are a map, float [B, D, h, w]; ids are int64 [B, h, w].
        """
        self.check_size(*pictures.shape[-2:])
        quantized = self.codebook(self.encode_latents(pictures).movedim(1, -1))
        values = quantized.values.movedim(-1, 1)
        return self.decode_latents(values), Quantized(values, quantized.ids, quantized.losses)


TOKENIZERS.variant("llamagen-vq-16", "llamagen-vq", LlamaGenVQConfig(), published="72M")
TOKENIZERS.variant(
    "llamagen-vq-8",
    "llamagen-vq",
    LlamaGenVQConfig(ConvolutionConfig(multipliers=(1, 2, 2, 4))),
    published="70M",
)
