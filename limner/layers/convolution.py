"""The convolutional autoencoder that LlamaGen, VAR, MAR and VQGAN share.

An encoder and a decoder of GroupNorm-swish residual blocks, with single-head attention at a few
levels. Only names and the levels with attention differ between the systems, so this is one
implementation; official names are mapped in `limner.hub.official`.

Module names (levels are numbered in the order in which they run):

    conv_in                              3x3 convolution
    levels.{l}.blocks.{b}                ResNetBlock: norm1, conv1, norm2, conv2, shortcut
    levels.{l}.attention.{b}             SpatialAttention: norm, query, key, value, projection
    levels.{l}.resample.conv             Downsample or Upsample; every level but the last has one
    middle.0, middle.1, middle.2         ResNetBlock, SpatialAttention, ResNetBlock
    norm_out, conv_out                   GroupNorm (then swish), 3x3 convolution

The encoder's level 0 is the finest; the decoder's level 0 is the coarsest. `shortcut` has weights
only where the channels change.

Sources: CompVis/taming-transformers `taming/modules/diffusionmodules/model.py`; FoundationVision/
LlamaGen `tokenizer/tokenizer_image/vq_model.py`; FoundationVision/VAR `models/basic_vae.py`;
LTH14/mar `models/vae.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.layers.convolution3x3 import (
    Convolution3x3,
    add_normalised_convolution,
    normalised,
    normalised_convolution,
)

GROUPS = 32
PIXELS_A_CHANNEL = 64  # from which on maps are held pixel by pixel, see `arranged`


@dataclass(frozen=True)
class ConvolutionConfig:
    """Size of an encoder and its mirrored decoder.

    Args:
        channels: of the finest level; a multiple of `groups`.
        multipliers: channels of each level, fine to coarse, as multiples of `channels`.
        blocks: residual blocks a level in the encoder; the decoder has one more.
        encoder_attention: levels with attention after every block; 0 is the finest, -1 the
            coarsest.
        decoder_attention: the same for the decoder, in the same numbering.
        pictures: channels of the pictures.
        middle_attention: attention between the two blocks at the coarsest resolution.
        halvings: how many levels, from the finest on, end in maps of half the size; None: all but
            the coarsest.
        groups: of every normalisation.
    """

    channels: int = 128
    multipliers: tuple[int | float, ...] = (1, 1, 2, 2, 4)
    blocks: int = 2
    encoder_attention: tuple[int, ...] = (-1,)
    decoder_attention: tuple[int, ...] = (-1,)
    pictures: int = 3
    middle_attention: bool = True
    halvings: int | None = None
    groups: int = GROUPS

    def __post_init__(self) -> None:
        check(self.groups > 0, "groups", self.groups, "at least 1")
        fits = self.channels > 0 and self.channels % self.groups == 0
        check(fits, "channels", self.channels, f"a positive multiple of {self.groups}")
        fits = len(self.multipliers) > 0 and min(self.multipliers) > 0
        check(fits, "multipliers", self.multipliers, "one or more positive numbers")
        fits = all((self.channels * each) % self.groups == 0 for each in self.multipliers)
        check(fits, "multipliers", self.multipliers, f"such that {self.groups} divides all widths")
        check(self.blocks > 0, "blocks", self.blocks, "at least 1")
        check(self.pictures > 0, "pictures", self.pictures, "at least 1")
        levels = len(self.multipliers)
        fits = self.halvings is None or 0 <= self.halvings < levels
        check(fits, "halvings", self.halvings, f"from 0 to {levels - 1}, or None")
        for field in ("encoder_attention", "decoder_attention"):
            chosen = getattr(self, field)
            fits = all(-levels <= level < levels for level in chosen)
            check(fits, field, chosen, f"levels from {-levels} to {levels - 1}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of each level, fine to coarse."""
        return tuple(round(self.channels * multiplier) for multiplier in self.multipliers)

    @property
    def factor(self) -> int:
        """Pixels along each side of a latent."""
        return 2**self.halved

    @property
    def halved(self) -> int:
        """Levels that end in maps of half the size."""
        return len(self.multipliers) - 1 if self.halvings is None else self.halvings

    def attends(self, chosen: tuple[int, ...], level: int) -> bool:
        """Return whether a level (0 is the finest) is among the chosen ones."""
        return level in chosen or level - len(self.multipliers) in chosen


def group_norm(channels: int, groups: int = GROUPS) -> nn.GroupNorm:
    """Return the group normalisation used throughout: epsilon 1e-6."""
    return nn.GroupNorm(groups, channels, eps=1e-6)


def arranged(x: Tensor, by_blocks: bool = False) -> Tensor:
    """Return a map [B, C, H, W] in the order in memory in which CPUs convolve it fastest.

    A large map with few channels is held pixel by pixel, and so is one that is convolved by
    blocks. Where channels are many, weights would have to be reordered at every call, which costs
    more than it saves.
    """
    if x.device.type != "cpu":
        return x
    by_pixels = by_blocks or x.shape[-2] * x.shape[-1] >= PIXELS_A_CHANNEL * x.shape[-3]
    order = torch.channels_last if by_pixels else torch.contiguous_format
    return x.contiguous(memory_format=order)


class ResNetBlock(nn.Module):
    """Two normalised, swish-activated 3x3 convolutions around a shortcut."""

    def __init__(self, inputs: int, outputs: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs, groups)
        self.conv1 = Convolution3x3(inputs, outputs)
        self.norm2 = group_norm(outputs, groups)
        self.conv2 = Convolution3x3(outputs, outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1)

    def forward(self, x: Tensor, overwrites: bool = False) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W], which may overwrite x if it is told so."""
        ordered = arranged(x, self.conv1.goes_by_blocks(x))
        hidden = normalised_convolution(self.norm1, self.conv1, ordered)
        total = self.shortcut(ordered)
        overwrites = overwrites or total is not x
        return add_normalised_convolution(total, self.norm2, self.conv2, hidden, overwrites)


class SpatialAttention(nn.Module):
    """Single-head attention over all places of a map, added to the map."""

    def __init__(self, channels: int, groups: int = GROUPS) -> None:
        super().__init__()
        self.norm = group_norm(channels, groups)
        self.query = nn.Conv2d(channels, channels, 1)
        self.key = nn.Conv2d(channels, channels, 1)
        self.value = nn.Conv2d(channels, channels, 1)
        self.projection = nn.Conv2d(channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to the same shape."""
        normed = self.norm(x)
        query, key, value = (
            layer(normed).flatten(2).transpose(1, 2).unsqueeze(1)  # [B, 1, HW, C]
            for layer in (self.query, self.key, self.value)
        )
        seen = functional.scaled_dot_product_attention(query, key, value)
        return x + self.projection(seen.squeeze(1).transpose(1, 2).reshape(x.shape))


class Downsample(nn.Module):
    """Halve a map by a strided convolution, padded at the right and the bottom only."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, channels, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, 2H, 2W] to [B, C, H, W]."""
        return self.conv(functional.pad(x, (0, 1, 0, 1)))


class Upsample(nn.Module):
    """Double a map by repeating its places, then convolve."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = Convolution3x3(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, C, 2H, 2W]."""
        x = functional.interpolate(x, scale_factor=2.0, mode="nearest")
        return self.conv(arranged(x, self.conv.goes_by_blocks(x)))


class Level(nn.Module):
    """Blocks of one resolution, each followed by attention where asked, then a change of size."""

    def __init__(
        self,
        inputs: int,
        outputs: int,
        blocks: int,
        attends: bool,
        resample: nn.Module,
        groups: int = GROUPS,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            ResNetBlock(inputs if block == 0 else outputs, outputs, groups)
            for block in range(blocks)
        )
        self.attention = nn.ModuleList(
            SpatialAttention(outputs, groups) for _ in range(blocks if attends else 0)
        )
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H', W']; without gradients x may be overwritten."""
        for index, block in enumerate(self.blocks):
            x = block(x, overwrites=True)
            if self.attention:
                x = self.attention[index](x)
        return self.resample(x)


def _middle(channels: int, attends: bool, groups: int) -> nn.Sequential:
    attention = SpatialAttention(channels, groups) if attends else nn.Identity()
    first, last = (ResNetBlock(channels, channels, groups) for _ in range(2))
    return nn.Sequential(first, attention, last)


class ConvEncoder(nn.Module):
    """Pictures to latents.

    Args:
        config: its size.
        latent: channels of the latents (twice the width for a Gaussian's moments).
    """

    def __init__(self, config: ConvolutionConfig, latent: int) -> None:
        super().__init__()
        widths = config.widths
        self.conv_in = nn.Conv2d(config.pictures, config.channels, 3, padding=1)
        self.levels = nn.ModuleList(
            Level(
                widths[level - 1] if level else config.channels,
                widths[level],
                config.blocks,
                config.attends(config.encoder_attention, level),
                Downsample(widths[level]) if level < config.halved else nn.Identity(),
                config.groups,
            )
            for level in range(len(widths))
        )
        self.middle = _middle(widths[-1], config.middle_attention, config.groups)
        self.norm_out = group_norm(widths[-1], config.groups)
        self.conv_out = nn.Conv2d(widths[-1], latent, 3, padding=1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures [B, pictures, H, W] to latents [B, latent, H / factor, W / factor]."""
        x = self.conv_in(arranged(pictures))
        for level in self.levels:
            x = level(x)
        return self.conv_out(normalised(self.norm_out, self.middle(x)))


class ConvDecoder(nn.Module):
    """Latents to pictures.

    Args:
        config: its size.
        latent: channels of the latents.
    """

    def __init__(self, config: ConvolutionConfig, latent: int) -> None:
        super().__init__()
        widths = config.widths
        last = len(widths) - 1
        self.conv_in = nn.Conv2d(latent, widths[-1], 3, padding=1)
        self.middle = _middle(widths[-1], config.middle_attention, config.groups)
        self.levels = nn.ModuleList(
            Level(
                widths[min(level + 1, last)],
                widths[level],
                config.blocks + 1,
                config.attends(config.decoder_attention, level),
                Upsample(widths[level]) if 0 < level <= config.halved else nn.Identity(),
                config.groups,
            )
            for level in reversed(range(len(widths)))
        )
        self.norm_out = group_norm(widths[0], config.groups)
        self.conv_out = nn.Conv2d(widths[0], config.pictures, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents [B, latent, h, w] to pictures [B, pictures, h * factor, w * factor]."""
        x = self.middle(self.conv_in(latents))
        for level in self.levels:
            x = level(x)
        return self.conv_out(normalised(self.norm_out, x))
