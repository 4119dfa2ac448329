"""A convolutional autoencoder around any quantiser: the frame of VQGAN and of LlamaGen's tokenizer.

Module names: `encoder`, `quant_conv` (1x1, into the codes' width), `quantizer`, `post_quant_conv`
(1x1, out of it), `decoder`. Tokens stand on a raster grid.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_ids
from limner.layers.convolution import ConvDecoder, ConvEncoder, ConvolutionConfig
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Quantized, Quantizer
from limner.tokenizers.reconstruction import Reconstruction

LISTED = 2**18  # codes, of quantisers whose codes are not a table, that are worth listing

PIXELS_AT_ONCE = 2**17
"""Encoded together on CPUs: more are not faster and take more memory, 2 kB a pixel as published."""


class ConvolutionalTokenizer(Tokenizer):
    """Pictures to a grid of ids and back.

    Args:
        convolution: encoder and decoder.
        latent: channels between the autoencoder and the 1x1 convolutions around the quantiser.
        quantizer: makes ids of latents.
    """

    quantizer: Quantizer

    def __init__(self, convolution: ConvolutionConfig, latent: int, quantizer: Quantizer) -> None:
        super().__init__()
        self.channels = convolution.pictures
        self.codebook_size = quantizer.codebook_size
        self.codes = quantizer.depth
        self.factor = convolution.factor
        self.encoder = ConvEncoder(convolution, latent)
        self.quant_conv = nn.Conv2d(latent, quantizer.width, 1)
        self.quantizer = quantizer
        self.post_quant_conv = nn.Conv2d(quantizer.width, latent, 1)
        self.decoder = ConvDecoder(convolution, latent)

    @property
    def codebook(self) -> Codebook | None:
        """The learned table whose rows the ids are; None where there is none such."""
        tables = self.quantizer.codebooks()
        return tables[0] if len(tables) == 1 and self.codes == 1 else None

    def layout(self, height: int, width: int, frames: int = 1, **schedule: Any) -> Layout:
        """Return the raster grid of a picture of this size."""
        self.check_size(height, width)
        return grid(height // self.factor, width // self.factor, frames)

    @torch.no_grad()
    def encode(
        self, pictures: Tensor, noise: Noise | None = None, layout: Layout | None = None
    ) -> Tokens:
        """Return the ids of pictures [B, channels, H, W].

        Args:
            layout: for tokenizers of several; None: that of `layout`.
        """
        height, width = pictures.shape[-2:]
        layout = layout or self.layout(height, width)
        at_once = len(pictures)
        if pictures.device.type == "cpu":
            at_once = max(1, PIXELS_AT_ONCE // (height * width))
        ids = [
            self.quantizer.nearest(self._vectors(self.encode_latents(part), layout))
            for part in pictures.split(at_once)
        ]
        return from_ids(layout, torch.cat(ids))

    def _vectors(self, latents: Tensor, layout: Layout) -> Tensor:
        """Return what is quantised of latents [B, D, h, w], in the order of tokens: [B, N, D]."""
        return latents.flatten(2).transpose(1, 2)

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1]."""
        return self.decode_latents(self.lookup(tokens)).clamp(-1, 1)

    def encode_latents(self, pictures: Tensor) -> Tensor:
        """Return latents before quantisation, float [B, D, h, w]."""
        latents: Tensor = self.quant_conv(self.encoder(pictures))
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return pictures of quantised latents [B, D, h, w], not clamped."""
        pictures: Tensor = self.decoder(self.post_quant_conv(latents))
        return pictures

    def lookup(self, tokens: Tokens) -> Tensor:
        """Return the values of tokens, or the vectors that they hold, as a map [B, D, h, w]."""
        values = tokens.values
        if values is None:
            assert tokens.ids is not None
            ids = tokens.ids.squeeze(-1) if self.codes == 1 else tokens.ids
            values = self.quantizer.lookup(ids)
        values = values.to(self.post_quant_conv.weight)
        return values.unflatten(1, tokens.layout.extent[1:]).movedim(-1, 1)

    def code_vectors(self) -> Tensor | None:
        """Return the value of every code, float [V, D], where there is one a place."""
        if self.codes != 1 or self.codebook_size > LISTED:
            return None
        every = torch.arange(self.codebook_size, device=self.post_quant_conv.weight.device)
        return self.quantizer.lookup(every).detach()

    @property
    def last_layer(self) -> Tensor:
        """Weights of the layer that makes the pixels."""
        return self.decoder.conv_out.weight

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send pictures [B, channels, H, W] through codes and back, as training needs it."""
        self.check_size(*pictures.shape[-2:])
        vectors = self.encode_latents(pictures).movedim(1, -1)
        quantized: Quantized = self.quantizer(vectors)
        shown = self.decode_latents(quantized.values.movedim(-1, 1))
        return Reconstruction(shown, quantized.losses, vectors.detach(), quantized.ids)

    def forward(self, pictures: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the quantiser made of the latents.

        The quantised values are a map, float [B, D, h, w]; ids are int64 [B, h, w] or
        [B, h, w, C].
        """
        self.check_size(*pictures.shape[-2:])
        quantized: Quantized = self.quantizer(self.encode_latents(pictures).movedim(1, -1))
        values = quantized.values.movedim(-1, 1)
        return self.decode_latents(values), Quantized(values, quantized.ids, quantized.losses)
