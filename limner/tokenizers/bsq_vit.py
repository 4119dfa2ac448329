"""BSQ-ViT: a transformer autoencoder whose tokens are the signs of unit vectors.

Zhao et al., "Image and video tokenization with binary spherical quantization", arXiv:2406.07548;
https://github.com/zhaoyue-zephyrus/bsq-vit `transcoder/models/{bsqvit,transformer}.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.memory import PassReading
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.layers.patchify import patchify, unpatchify
from limner.layers.vision_transformer import StackConfig, VisionBlock
from limner.tokenizers.quantizers.bsq import BSQ, BSQConfig
from limner.tokenizers.quantizers.quantizer import Quantized

_EPS = 1e-5


@dataclass(frozen=True)
class BSQViTConfig:
    """Size of BSQ-ViT.

    Args:
        size: side of the square pictures; positions are learned for it.
        patch: side of a patch, which is one token.
        encoder: of the encoder.
        decoder: of the decoder.
        painter: width of the layer before the pixels.
        quantizer: bits and losses.
    """

    size: int = 256
    patch: int = 8
    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    painter: int = 3072
    quantizer: BSQConfig = field(default_factory=BSQConfig)

    def __post_init__(self) -> None:
        fits = self.patch > 0 and self.size > 0 and self.size % self.patch == 0
        check(fits, "size", self.size, f"a positive multiple of the patch, {self.patch}")
        check(self.painter > 0, "painter", self.painter, "at least 1")


class Transformer(nn.Module):
    """Learned positions, a norm, pre-norm blocks that see everything, a norm."""

    def __init__(self, config: StackConfig, places: int) -> None:
        super().__init__()
        self.places = nn.Parameter(torch.randn(places, config.width) * config.width**-0.5)
        self.norm_in = nn.LayerNorm(config.width, _EPS)
        self.blocks = nn.ModuleList(
            VisionBlock(config.width, config.heads, layer, config.ratio, eps=_EPS)
            for layer in range(config.depth)
        )
        self.norm_out = nn.LayerNorm(config.width, _EPS)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [B, N, width] to the same shape."""
        x, reading = self.norm_in(x + self.places), PassReading()
        for block in self.blocks:
            x = block(x, reading)
        out: Tensor = self.norm_out(x)
        return out


@TOKENIZERS.family("bsq-vit", BSQViTConfig)
class BSQViT(Tokenizer):
    """Pictures to a grid of bits and back.

    Module names: `embed`, `encoder`, `into` (to bits), `out` (from bits), `decoder`, `painter`,
    `pixels`.

    Args:
        config: its size.
    """

    config: BSQViTConfig
    codes = 1

    def __init__(self, config: BSQViTConfig) -> None:
        super().__init__()
        self.config = config
        self.factor = config.patch
        self.codebook_size = 2**config.quantizer.bits
        places, pixels = (config.size // config.patch) ** 2, self.channels * config.patch**2
        self.embed = nn.Linear(pixels, config.encoder.width, bias=False)
        self.encoder = Transformer(config.encoder, places)
        self.into = nn.Linear(config.encoder.width, config.quantizer.bits)
        self.quantizer = BSQ(config.quantizer)
        self.out = nn.Linear(config.quantizer.bits, config.decoder.width)
        self.decoder = Transformer(config.decoder, places)
        self.painter = nn.Linear(config.decoder.width, config.painter)
        self.pixels = nn.Linear(config.painter, pixels)

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid of a picture, which has the configured size."""
        size = self.config.size
        check((height, width) == (size, size), "size", f"{height}x{width}", f"{size}x{size}")
        return grid(size // self.factor, size // self.factor, frames)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the ids of pictures [B, 3, H, W]."""
        layout = self.layout(*pictures.shape[-2:])
        return from_ids(layout, self.quantizer.nearest(self.encode_latents(pictures)))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, 3, H, W], clamped to [-1, 1]."""
        assert tokens.ids is not None
        values = self.quantizer.lookup(tokens.ids.squeeze(-1)).to(self.out.weight)
        return self.decode_latents(values).clamp(-1, 1)

    def read(self, pictures: Tensor) -> Tensor:
        """Return what the encoder makes of pictures, float [B, N, width]."""
        x: Tensor = self.encoder(self.embed(patchify(pictures, self.factor)))
        return x

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return unit vectors before quantisation, float [B, N, bits]."""
        return nn.functional.normalize(self.into(self.read(pictures)), dim=-1)

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, N, bits], not clamped."""
        painted = self.pixels(self.painter(self.decoder(self.out(latents))).tanh())
        side = self.config.size // self.factor
        return unpatchify(painted, side, side, self.factor)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the quantiser made of the latents."""
        self.layout(*pictures.shape[-2:])
        quantized = self.quantizer(self.encode_latents(pictures))
        return self.decode_latents(quantized.values), quantized


def _register_variants() -> None:
    for bits, count in ((18, 174_816_210), (36, None)):
        config = BSQViTConfig(quantizer=BSQConfig(bits=bits, commitment=0.25))
        TOKENIZERS.variant(f"bsq-vit-{bits}", "bsq-vit", config, count)


_register_variants()
