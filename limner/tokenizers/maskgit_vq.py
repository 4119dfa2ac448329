"""MaskGIT's tokenizer, with the published weights of which TiTok and others decode.

Chang et al., "MaskGIT: masked generative image transformer", CVPR 2022 (arXiv:2202.04200);
https://github.com/bytedance/1d-tokenizer `modeling/modules/maskgit_vqgan.py`. The network itself
works on pictures in [0, 1]; as every tokenizer, this one takes and gives [-1, 1].
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.layers.convolution import ConvolutionConfig
from limner.layers.maskgit_convolution import MaskGITDecoder, MaskGITEncoder
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class MaskGITVQConfig:
    """Size of MaskGIT's tokenizer.

    Args:
        convolution: encoder and decoder, which have no attention.
        codebook_size: V.
        width: D of a code, and channels of the latents.
        commitment: weight of the loss that draws latents to their codes.
        pull: weight of the loss that draws codes to their latents.
    """

    convolution: ConvolutionConfig = field(
        default_factory=lambda: ConvolutionConfig(encoder_attention=(), decoder_attention=())
    )
    codebook_size: int = 1024
    width: int = 256
    commitment: float = 1.0
    pull: float = 0.25

    def __post_init__(self) -> None:
        attended = self.convolution.encoder_attention + self.convolution.decoder_attention
        check(not attended, "attention", attended, "empty: there is none")
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.width > 0, "width", self.width, "at least 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")
        check(self.pull >= 0, "pull", self.pull, "0 or more")


@TOKENIZERS.family("maskgit-vq", MaskGITVQConfig)
class MaskGITVQ(Tokenizer):
    """Pictures to a grid of codes and back.

    Args:
        config: its size.
    """

    config: MaskGITVQConfig
    codes = 1

    def __init__(self, config: MaskGITVQConfig) -> None:
        super().__init__()
        self.config = config
        self.channels = config.convolution.pictures
        self.codebook_size = config.codebook_size
        self.factor = config.convolution.factor
        self.encoder = MaskGITEncoder(config.convolution, config.width)
        self.quantizer = Codebook(
            config.codebook_size, config.width, commitment=config.commitment, pull=config.pull
        )
        self.decoder = MaskGITDecoder(config.convolution, config.width)

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid of a picture of this size."""
        self.check_size(height, width)
        return grid(height // self.factor, width // self.factor, frames)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the ids of pictures [B, channels, H, W]."""
        layout = self.layout(*pictures.shape[-2:])
        latents = self.encode_latents(pictures)
        return from_ids(layout, self.quantizer.nearest(latents.movedim(1, -1)).flatten(1))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]."""
        return self.decode_latents(self.lookup(tokens)).clamp(-1, 1)

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        latents: Tensor = self.encoder((pictures + 1) / 2)
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        pictures: Tensor = self.decoder(latents)
        return 2 * pictures - 1

    def lookup(self, tokens: Tokens) -> Tensor:
        """Return the codes of tokens as a map, float [B, D, h, w]."""
        assert tokens.ids is not None
        codes = self.quantizer.lookup(tokens.ids.squeeze(-1))
        return codes.unflatten(1, tokens.layout.extent[1:]).movedim(-1, 1)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the codebook made of the latents.

        The quantised values are a map, float [B, D, h, w]; ids are int64 [B, h, w].
        """
        self.check_size(*pictures.shape[-2:])
        quantized = self.quantizer(self.encode_latents(pictures).movedim(1, -1))
        values = quantized.values.movedim(-1, 1)
        return self.decode_latents(values), Quantized(values, quantized.ids, quantized.losses)


TOKENIZERS.variant("maskgit-vq-16", "maskgit-vq", MaskGITVQConfig(), published=54_515_587)
