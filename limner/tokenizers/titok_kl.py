"""AR-Diffusion's tokenizer of clips: a few continuous vectors a frame, after TiTok.

Sun et al., "AR-Diffusion: Asynchronous Video Generation with Auto-Regressive Diffusion",
arXiv:2503.07418; facts from src/vae/{titok_kl,titok_kl_wt,maskgit_vqgan}.py of
iva-mzsun/AR-Diffusion. TiTok: Yu et al., arXiv:2406.07550.

A transformer turns a frame into L vectors of length 1. Another one makes of them chances of
MaskGIT's codes on a grid, whose mean code is decoded to pixels; there, frames may see earlier ones.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.layout import Layout, grid
from limner.core.noise import Noise
from limner.core.registry import TOKENIZERS
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, from_values
from limner.layers.convolution import ConvolutionConfig
from limner.layers.maskgit_convolution import MaskGITDecoder
from limner.layers.titok import LatentDecoder, LatentEncoder
from limner.layers.vision_transformer import StackConfig


def _pixels() -> ConvolutionConfig:
    return ConvolutionConfig(encoder_attention=(), decoder_attention=())


@dataclass(frozen=True)
class TiTokKLConfig:
    """Size of the tokenizer.

    Args:
        stack: of both transformers.
        size: side of the square frames.
        frames: of a clip.
        patch: side of a patch that the encoder reads.
        latents: L, vectors of a frame.
        latent: D, numbers of such a vector.
        codes: of which the decoder tells chances.
        code_width: of such a code.
        pixels: the decoder of codes; its factor is the side of a place of the grid.
        temporal: frames see earlier ones in the decoder.
    """

    stack: StackConfig = field(default_factory=lambda: StackConfig(1024, 24, 16))
    size: int = 256
    frames: int = 16
    patch: int = 16
    latents: int = 32
    latent: int = 4
    codes: int = 1024
    code_width: int = 256
    pixels: ConvolutionConfig = field(default_factory=_pixels)
    temporal: bool = True

    def __post_init__(self) -> None:
        for name in ("frames", "latents", "latent", "codes", "code_width"):
            check(getattr(self, name) > 0, name, getattr(self, name), "1 or more")
        for unit in (self.patch, self.pixels.factor):
            fits = unit > 0 and self.size > 0 and self.size % unit == 0
            check(fits, "size", self.size, f"a positive multiple of {unit}")


@TOKENIZERS.family("titok-kl", TiTokKLConfig)
class TiTokKL(Tokenizer):
    """Clips, float32 [B, T, 3, H, W] in [-1, 1], to vectors of length 1 and back.

    Args:
        config: its size.
    """

    config: TiTokKLConfig

    def __init__(self, config: TiTokKLConfig) -> None:
        super().__init__()
        self.config = config
        self.width = config.latent
        self.frames = config.frames
        stack = config.stack
        self.queries = nn.Parameter(stack.width**-0.5 * torch.randn(config.latents, stack.width))
        side, outputs = config.size // config.patch, 2 * config.latent
        self.encoder = LatentEncoder(stack, side, config.patch, config.latents, outputs)
        side = config.size // config.pixels.factor
        self.decoder = LatentDecoder(
            stack, side, config.latents, config.latent, config.codes, config.temporal
        )
        self.mean_code = nn.Conv2d(config.codes, config.code_width, 1)
        self.pixels = MaskGITDecoder(config.pixels, config.code_width)

    def layout(self, height: int, width: int, frames: int | None = None, **schedule: Any) -> Layout:
        """Return where the vectors of a clip stand: L registers a frame.

        Args:
            frames: None: the configured number.
        """
        size = self.config.size
        check((height, width) == (size, size), "size", f"{height}x{width}", f"{size}x{size}")
        frames = self.config.frames if frames is None else frames
        check(frames > 0, "frames", frames, "1 or more")
        return grid(1, self.config.latents, frames, kind="values", role="register")

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the vectors of clips [B, T, 3, H, W].

        Raises:
            ConfigError: clips of another size.
        """
        self.check_clips(pictures)
        layout = self.layout(pictures.shape[3], pictures.shape[4], pictures.shape[1])
        means = self.moments(pictures).chunk(2, dim=2)[0]
        values = means.transpose(2, 3).flatten(1, 2)
        return from_values(layout, functional.normalize(values, dim=-1))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return clips [B, T, 3, H, W], clamped to [-1, 1]."""
        assert tokens.values is not None
        frames = tokens.layout.extent[0]
        latents = tokens.values.unflatten(1, (frames, -1)).transpose(2, 3)
        return self.paint(self.code_logits(latents)).clamp(-1, 1)

    def steps_of(self, frames: int) -> int:
        """A frame is encoded by itself."""
        return frames

    def preview(self, tokens: Tokens) -> Tensor:
        """Return the clips of what is drawn so far, noise included."""
        return self.decode(tokens)

    def moments(self, clips: Tensor) -> Tensor:
        """Return means and logarithms of variances of clips [B, T, 3, H, W]: [B, T, 2 D, L]."""
        # the network reads [0, 1]
        moments = self.encoder((clips.flatten(0, 1) + 1) / 2, self.queries)
        return moments.unflatten(0, clips.shape[:2])

    def code_logits(self, latents: Tensor) -> Tensor:
        """Return logits of codes, float [B, T, codes, h, w], of latents [B, T, D, L]."""
        vectors = functional.normalize(latents, dim=2).transpose(2, 3)
        logits: Tensor = self.decoder(vectors)
        return logits.unflatten(0, latents.shape[:2])

    def paint(self, logits: Tensor) -> Tensor:
        """Return clips [B, T, 3, H, W] of logits of codes, not clamped."""
        painted = self.pixels(self.mean_code(logits.flatten(0, 1).softmax(1)))
        return 2 * painted.unflatten(0, logits.shape[:2]) - 1


TOKENIZERS.variant("titok-kl-l-32", "titok-kl", TiTokKLConfig(temporal=False), 640_993_547)
TOKENIZERS.variant("titok-kl-l-32-video", "titok-kl", TiTokKLConfig(), 842_713_355)
