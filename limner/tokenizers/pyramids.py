"""What tokenizers have in common whose tokens are a pyramid of scales."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.canvas import Canvas
from limner.core.layout import Layout
from limner.core.noise import Noise
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens
from limner.layers.convolution import ConvDecoder, ConvEncoder
from limner.tokenizers.quantizers.multiscale import MultiScaleQuantizer, picture_pyramid
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBits
from limner.tokenizers.quantizers.quantizer import Quantized
from limner.tokenizers.reconstruction import Reconstruction


class ScalesTokenizer(Tokenizer):
    """Base: the quantiser is the canvas; `config.scales` are the usual scales.

    Attributes:
        quantizer: latents to tokens of all scales and back.
    """

    quantizer: MultiScaleQuantizer | MultiScaleBits

    def preview(self, tokens: Tokens) -> Tensor:
        """Return the picture that the known scales add up to."""
        return self.decode(tokens)

    @property
    def canvas(self) -> Canvas:  # type: ignore[override]
        """The sum of the scales so far."""
        return self.quantizer

    def layout(
        self,
        height: int,
        width: int,
        frames: int = 1,
        scales: Sequence[int | tuple[int, int]] | None = None,
        **schedule: Any,
    ) -> Layout:
        """Return the pyramid of a picture of this size; see `picture_pyramid` for `scales`."""
        self.check_size(height, width)
        rows, columns = height // self.factor, width // self.factor
        return picture_pyramid(self.config.scales, rows, columns, scales)


class ConvolutionalScales(ScalesTokenizer):
    """Base: convolutions around the quantiser.

    Attributes:
        encoder: pictures to latents; `encode_latents` may add to it.
        decoder: latents to pictures; `decode_latents` may add to it.
    """

    encoder: ConvEncoder
    decoder: ConvDecoder

    @torch.no_grad()
    def encode(
        self, pictures: Tensor, noise: Noise | None = None, layout: Layout | None = None
    ) -> Tokens:
        """Return the tokens of pictures [B, channels, H, W].

        Args:
            layout: a pyramid of other scales; None: that of `layout`.
        """
        layout = layout or self.layout(*pictures.shape[-2:])
        return self.quantizer.encode(self.encode_latents(pictures), layout)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1], of all that is known."""
        return self.decode_latents(self.quantizer.decode(tokens)).clamp(-1, 1)

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        latents: Tensor = self.encoder(pictures)
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        pictures: Tensor = self.decoder(latents.to(self.decoder.conv_in.weight.dtype))
        return pictures

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the quantiser made of the latents."""
        layout = self.layout(*pictures.shape[-2:])
        quantized: Quantized = self.quantizer(self.encode_latents(pictures), layout)
        return self.decode_latents(quantized.values), quantized

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send pictures [B, channels, H, W] through all scales and back, as training needs it."""
        shown, quantized = self(pictures)
        return Reconstruction(shown, quantized.losses, quantized.vectors, quantized.ids)

    @property
    def last_layer(self) -> Tensor:
        """Weights of the layer that makes the pixels."""
        return self.decoder.conv_out.weight


class PyramidTokenizer(ScalesTokenizer):
    """Base: tokens are codes of one codebook that all scales share."""

    quantizer: MultiScaleQuantizer
    mixes = True

    def code_vectors(self) -> Tensor:
        """Return the codes, float [V, D]."""
        return self.quantizer.codebook.weight
