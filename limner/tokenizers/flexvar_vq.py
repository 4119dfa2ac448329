"""FlexVAR's tokenizer: LlamaGen's, made to show pictures of any size from latents of any size.

Jiao et al., "FlexVAR: Flexible Visual Autoregressive Modeling without Residual Prediction",
arXiv:2502.20313; facts from models/vq_llama.py and trainer.py of jiaosiyu1999/FlexVAR. Latents are
averaged to the size of every scale and quantised there, each scale on its own; a picture is drawn
from the last one alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.core.layout import Layout
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokens import Tokens
from limner.orders.scale_lists import stretched
from limner.tokenizers.latent_pyramids import as_tokens
from limner.tokenizers.latest_codes import WholeScales
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from limner.tokenizers.quantizers.multiscale import check_scales
from limner.tokenizers.quantizers.quantizer import Quantized
from limner.tokenizers.reconstruction import Reconstruction

SMALLEST = 16
"""Side in pixels of the smallest pictures that training looks at: perceptual networks need it."""


@dataclass(frozen=True)
class FlexVARVQConfig(LlamaGenVQConfig):
    """Size of FlexVAR's tokenizer.

    Args:
        scales: sizes of the square scales, coarse to fine, that a generator may learn from; other
            grids stretch them.
        sizes: of latents, in one step of training: that of the pictures, and others at random.
    """

    codebook_size: int = 8912
    codebook_width: int = 32
    scales: tuple[int, ...] = tuple(range(1, 17))
    sizes: int = 5

    def __post_init__(self) -> None:
        super().__post_init__()
        check_scales(self.scales)
        check(self.sizes > 0, "sizes", self.sizes, "at least 1")


@TOKENIZERS.family("flexvar-vq", FlexVARVQConfig)
class FlexVARVQ(WholeScales, LlamaGenVQ):
    """Pictures to codes at every scale, each scale a whole picture, and back.

    Args:
        config: its size.
    """

    config: FlexVARVQConfig

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return pictures [B, channels, H, W], clamped to [-1, 1].

        They show the finest scale of which something is known, enlarged if it is not the last.
        """
        layout, ids = tokens.layout, tokens.ids
        assert ids is not None
        height, width = (side * self.factor for side in layout.extent[1:])
        shown = self.last_layer.new_zeros(len(tokens), self.channels, height, width)
        for index, rows in self._finest(tokens).items():
            pictures = self.show_scale(Tokens(layout, ids[rows], None, tokens.known[rows]), index)
            shown[rows] = enlarged(pictures, (height, width)).to(shown)
        return shown.clamp(-1, 1)

    def show_scale(self, tokens: Tokens, segment: int) -> Tensor:
        """Return what one scale shows at its own size, float [B, channels, h', w'], not clamped.

        Unknown codes are 0.
        """
        assert tokens.ids is not None
        span = tokens.layout.span(segment)
        codes = self.quantizer.lookup(tokens.ids[:, span, 0]) * tokens.known[:, span, None]
        maps = codes.transpose(1, 2).unflatten(2, tokens.layout.segments[segment].size[1:])
        return self.decode_latents(maps)

    def reconstruct(self, pictures: Tensor, rng: torch.Generator | None = None) -> Reconstruction:
        """Send pictures [B, channels, H, W] through codes and back, at several sizes.

        Args:
            rng: draws the sizes beside the pictures' own; None: there are none.
        """
        self.check_size(*pictures.shape[-2:])
        latents = self.encode_latents(pictures)
        made = [self._through(averaged) for averaged in self._averages(latents, rng)]
        (shown, _, _), *others = made
        smaller = [
            (small, functional.interpolate(pictures, small.shape[-2:], mode="area"))
            for small, _, _ in others
        ]
        losses = {
            name: torch.stack([quantized.losses[name] for _, quantized, _ in made]).sum()
            for name in made[0][1].losses
        }
        ids = torch.cat([quantized.ids.flatten() for _, quantized, _ in made])
        vectors = torch.cat([vectors.detach().flatten(0, -2) for _, _, vectors in made])
        return Reconstruction(shown, losses, vectors, ids, smaller)

    def _vectors(self, latents: Tensor, layout: Layout) -> Tensor:
        values = as_tokens(latents, layout).values
        assert values is not None
        return values

    def _averages(self, latents: Tensor, rng: torch.Generator | None) -> list[Tensor]:
        """Return latents [B, D, h, w] as they are, then averaged to random scales."""
        if rng is None:
            return [latents]
        scales = self.config.scales
        sizes = stretched(scales, scales[-1], *latents.shape[-2:])[:-1]
        sizes = tuple(size for size in sizes if min(size) * self.factor >= SMALLEST)
        drawn = torch.randperm(len(sizes), generator=rng)[: self.config.sizes - 1].tolist()
        return [
            latents,
            *(functional.adaptive_avg_pool2d(latents, sizes[index]) for index in drawn),
        ]

    def _through(self, latents: Tensor) -> tuple[Tensor, Quantized, Tensor]:
        """Return the pictures of quantised latents, what they were quantised to, and as vectors."""
        vectors = latents.movedim(1, -1)
        quantized: Quantized = self.quantizer(vectors)
        return self.decode_latents(quantized.values.movedim(-1, 1)), quantized, vectors

    def _finest(self, tokens: Tokens) -> dict[int, Tensor]:
        """Return the rows, int64 [n], by the finest scale of which they know something."""
        layout = tokens.layout
        known = torch.stack(
            [tokens.known[:, layout.span(k)].any(1) for k in range(len(layout.segments))]
        )
        last = (known * torch.arange(1, len(known) + 1, device=known.device)[:, None]).amax(0) - 1
        return {
            int(index): (last == index).nonzero().squeeze(1)
            for index in last.unique()
            if index >= 0
        }


def enlarged(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """Return pictures [B, C, h, w] of another size, resized bicubically."""
    if pictures.shape[-2:] == size:
        return pictures
    return functional.interpolate(pictures, size, mode="bicubic", align_corners=False)


TOKENIZERS.variant("flexvar-vq", "flexvar-vq", FlexVARVQConfig(), published=72_049_827)
