"""LARP: clips to codes that each tell of the whole clip, for the clips of NAR.

Wang et al., "LARP: Tokenizing Videos with a Learned Autoregressive Generative Prior",
arXiv:2410.21264; facts from NAR-videos/models/{larp_tokenizer,bottleneck,transformer,embed}.py of
ThisisBillhe/NAR, which has it from hywang66/LARP.

A transformer reads the patches of a clip and learned queries; what it makes of the queries is
quantised. Another one reads these codes and a query for every patch, which become the pixels. The
codes have no place in the clip; NAR treats them as a volume. Its autoregressive prior and the
random choice of codes in training are not here.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import lru_cache
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
from limner.layers.sine_places import line_places, volume_places
from limner.layers.vision_transformer import StackConfig, VisionBlock
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Quantized


@dataclass(frozen=True)
class LARPConfig:
    """Size of LARP.

    Args:
        size: side of the square frames.
        frames: of a clip.
        patch: side of a patch.
        patch_frames: frames of a patch.
        encoder: of the encoder.
        decoder: of the decoder.
        volume: frames, rows and columns that the codes are laid out in.
        codebook_size: V, number of codes.
        codebook_width: of a code.
        normalize: compare directions of vectors and codes.
        commitment: weight of the loss that draws vectors to their codes.
        query_type: queries of patches have one learned vector in common.
    """

    size: int = 128
    frames: int = 16
    patch: int = 8
    patch_frames: int = 4
    encoder: StackConfig = field(default_factory=StackConfig)
    decoder: StackConfig = field(default_factory=StackConfig)
    volume: tuple[int, int, int] = (4, 16, 16)
    codebook_size: int = 8192
    codebook_width: int = 16
    normalize: bool = True
    commitment: float = 0.25
    query_type: bool = True

    def __post_init__(self) -> None:
        for whole, part in (("size", "patch"), ("frames", "patch_frames")):
            value, unit = getattr(self, whole), getattr(self, part)
            fits = unit > 0 and value > 0 and value % unit == 0
            check(fits, whole, value, f"a positive multiple of {part}, {unit}")
        check(min(self.volume) > 0, "volume", self.volume, "positive frames, rows and columns")
        for name in ("encoder", "decoder"):
            width = getattr(self, name).width
            check(width % 4 == 0, f"{name}.width", width, "a multiple of 4")

    @property
    def patches(self) -> tuple[int, int, int]:
        """Frames, rows and columns of patches."""
        side = self.size // self.patch
        return self.frames // self.patch_frames, side, side


class QueryTransformer(nn.Module):
    """Pre-norm blocks over a context and queries; what becomes of the queries is given."""

    def __init__(self, config: StackConfig) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            VisionBlock(config.width, config.heads, layer, config.ratio, eps=1e-5, qkv_bias=False)
            for layer in range(config.depth)
        )

    def forward(self, context: Tensor, queries: Tensor) -> Tensor:
        """Map float [B, N, width] and [B, Q, width] to [B, Q, width]."""
        x, reading = torch.cat([context, queries], dim=1), PassReading()
        for block in self.blocks:
            x = block(x, reading)
        return x[:, context.shape[1] :]


@TOKENIZERS.family("larp", LARPConfig)
class LARP(Tokenizer):
    """Clips, float32 [B, T, 3, H, W] in [-1, 1], to codes and back.

    Args:
        config: its size.
    """

    config: LARPConfig
    codes = 1

    def __init__(self, config: LARPConfig) -> None:
        super().__init__()
        self.config = config
        self.factor = config.patch
        self.frames = config.frames
        self.codebook_size = config.codebook_size
        inner, outer = config.encoder.width, config.decoder.width
        patch = (config.patch_frames, config.patch, config.patch)
        self.embed = nn.Conv3d(self.channels, inner, patch, stride=patch)
        self.queries = nn.Parameter(0.02 * torch.randn(math.prod(config.volume), inner))
        self.encoder = QueryTransformer(config.encoder)
        self.into = nn.Linear(inner, config.codebook_width)
        self.quantizer = Codebook(
            config.codebook_size, config.codebook_width, config.normalize, config.commitment
        )
        self.out = nn.Linear(config.codebook_width, outer)
        self.query_type = (
            nn.Parameter(0.02 * torch.randn(1, 1, outer)) if config.query_type else None
        )
        self.decoder = QueryTransformer(config.decoder)
        self.norm = nn.LayerNorm(outer, 1e-6)
        self.pixels = nn.Linear(outer, self.channels * math.prod(patch))
        self._initialise()

    def _initialise(self) -> None:
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                if module.bias is not None:
                    nn.init.zeros_(module.bias)
        nn.init.xavier_uniform_(self.embed.weight.flatten(1))
        nn.init.zeros_(self.embed.bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.pixels.weight)

    def layout(self, height: int, width: int, frames: int | None = None, **schedule: Any) -> Layout:
        """Return the volume of the codes of a clip, which has the configured size.

        Args:
            frames: None: the configured number.
        """
        size, window = self.config.size, self.config.frames
        check((height, width) == (size, size), "size", f"{height}x{width}", f"{size}x{size}")
        check(frames in (None, window), "frames", frames, f"the model's window, {window}")
        frames, rows, columns = self.config.volume
        return grid(rows, columns, frames)

    @torch.no_grad()
    def encode(self, pictures: Tensor, noise: Noise | None = None) -> Tokens:
        """Return the codes of clips [B, T, 3, H, W].

        Raises:
            ConfigError: clips of another size or length.
        """
        layout = self._layout_of(pictures)
        return from_ids(layout, self.quantizer.nearest(self.encode_latents(pictures)))

    def decode(
        self, tokens: Tokens, options: dict[str, Any] | None = None, noise: Noise | None = None
    ) -> Tensor:
        """Return clips [B, T, 3, H, W], clamped to [-1, 1]."""
        assert tokens.ids is not None
        values = self.quantizer.lookup(tokens.ids.squeeze(-1)).to(self.out.weight)
        return self.decode_latents(values).clamp(-1, 1)

    def preview(self, tokens: Tokens) -> Tensor:
        """Return the clips of what is known; every code tells of all of a clip."""
        return self.decode(tokens)

    def encode_latents(self, clips: Tensor) -> Tensor:
        """Return vectors before quantisation, float [B, n, codebook_width]."""
        # the network reads [0, 1]
        patches = self.embed((clips.transpose(1, 2) + 1) / 2).flatten(2).transpose(1, 2)
        places = _volume(*self.config.patches, patches.shape[-1]).to(patches)
        encoded = self.encoder(patches + places, self.queries.expand(len(clips), -1, -1))
        latents: Tensor = self.into(encoded)
        return latents

    def decode_latents(self, latents: Tensor) -> Tensor:
        """Return clips of quantised latents [B, n, codebook_width], not clamped."""
        width = self.config.decoder.width
        context = self.out(latents)
        context = context + _line(latents.shape[1], width).to(context)
        queries = _volume(*self.config.patches, width).to(context).unsqueeze(0)
        if self.query_type is not None:
            queries = queries + self.query_type
        decoded = self.decoder(context, queries.expand(len(latents), -1, -1))
        return 2 * self._painted(self.pixels(self.norm(decoded))) - 1

    def _painted(self, patches: Tensor) -> Tensor:
        """Lay patches [B, N, frames rows columns channels] out as clips [B, T, 3, H, W]."""
        config = self.config
        inner = (config.patch_frames, config.patch, config.patch, self.channels)
        split = patches.unflatten(2, inner).unflatten(1, config.patches)
        # [B, t, h, w, frames, rows, columns, channels]
        return split.permute(0, 1, 4, 7, 2, 5, 3, 6).flatten(6, 7).flatten(4, 5).flatten(1, 2)

    def forward(self, clips: Tensor) -> tuple[Tensor, Quantized]:
        """Return reconstructions, not clamped, and what the quantiser made of the latents."""
        self._layout_of(clips)
        quantized = self.quantizer(self.encode_latents(clips))
        return self.decode_latents(quantized.values), quantized

    def _layout_of(self, clips: Tensor) -> Layout:
        self.check_clips(clips)
        return self.layout(clips.shape[3], clips.shape[4], clips.shape[1])


@lru_cache(maxsize=16)
def _line(count: int, width: int) -> Tensor:
    return line_places(count, width)


@lru_cache(maxsize=16)
def _volume(frames: int, rows: int, columns: int, width: int) -> Tensor:
    return volume_places(frames, rows, columns, width)


TOKENIZERS.variant("larp", "larp", LARPConfig())
