"""MaskGIT's convolutional autoencoder: no attention, average pooling, blocks without biases.

TiTok, Muse and others decode with its published weights, so it keeps a quirk of theirs: where a
block changes the number of channels, the shortcut reads the block's own output, and the input is
dropped.

Module names (levels are numbered in the order in which they run):

    conv_in                              3x3 convolution
    levels.{l}.blocks.{b}                MaskGITBlock: norm1, conv1, norm2, conv2, shortcut
    levels.{l}.resample.conv             3x3 convolution behind an enlargement (decoder only)
    middle.{b}                           MaskGITBlock
    norm_out, conv_out

Sources: Chang et al., "MaskGIT", CVPR 2022 (arXiv:2202.04200); bytedance/1d-tokenizer
`modeling/modules/maskgit_vqgan.py`.
"""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn import functional

from limner.layers.convolution import ConvolutionConfig, Upsample, group_norm
from limner.layers.convolution3x3 import Convolution3x3, normalised_convolution


class MaskGITBlock(nn.Module):
    """Two normalised, swish-activated 3x3 convolutions around a shortcut; see the quirk above."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.norm1 = group_norm(inputs)
        self.conv1 = Convolution3x3(inputs, outputs, bias=False)
        self.norm2 = group_norm(outputs)
        self.conv2 = Convolution3x3(outputs, outputs, bias=False)
        self.shortcut = None if inputs == outputs else nn.Conv2d(outputs, outputs, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        hidden = normalised_convolution(
            self.norm2, self.conv2, normalised_convolution(self.norm1, self.conv1, x)
        )
        return hidden + (x if self.shortcut is None else self.shortcut(hidden))


class _Level(nn.Module):
    def __init__(self, inputs: int, outputs: int, blocks: int, resample: nn.Module) -> None:
        super().__init__()
        self.blocks = _blocks(inputs, outputs, blocks)
        self.resample = resample

    def forward(self, x: Tensor) -> Tensor:
        x = self.resample(self.blocks(x))
        return x


def _blocks(inputs: int, outputs: int, count: int) -> nn.Sequential:
    widths = [inputs, *[outputs] * count]
    return nn.Sequential(*(MaskGITBlock(*pair) for pair in pairwise(widths)))


class MaskGITEncoder(nn.Module):
    """Pictures to latents.

    Args:
        config: its size; levels with attention are passed over.
        latent: channels of the latents.
    """

    def __init__(self, config: ConvolutionConfig, latent: int) -> None:
        super().__init__()
        widths, blocks = [config.channels, *config.widths], config.blocks
        last = len(config.widths) - 1
        self.conv_in = nn.Conv2d(config.pictures, config.channels, 3, padding=1, bias=False)
        self.levels = nn.Sequential(
            *(
                _Level(*pair, blocks, nn.AvgPool2d(2) if level < last else nn.Identity())
                for level, pair in enumerate(pairwise(widths))
            )
        )
        self.middle = _blocks(widths[-1], widths[-1], blocks)
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], latent, 1)

    def forward(self, pictures: Tensor) -> Tensor:
        """Map pictures [B, pictures, H, W] to latents [B, latent, H / factor, W / factor]."""
        x = self.middle(self.levels(self.conv_in(pictures)))
        latents: Tensor = self.conv_out(functional.silu(self.norm_out(x)))
        return latents


class MaskGITDecoder(nn.Module):
    """Latents to pictures.

    Args:
        config: its size; levels with attention are passed over.
        latent: channels of the latents.
    """

    def __init__(self, config: ConvolutionConfig, latent: int) -> None:
        super().__init__()
        widths, blocks = [config.widths[-1], *reversed(config.widths)], config.blocks
        last = len(config.widths) - 1
        self.conv_in = nn.Conv2d(latent, widths[0], 3, padding=1)
        self.middle = _blocks(widths[0], widths[0], blocks)
        self.levels = nn.Sequential(
            *(
                _Level(*pair, blocks, Upsample(pair[1]) if level < last else nn.Identity())
                for level, pair in enumerate(pairwise(widths))
            )
        )
        self.norm_out = group_norm(widths[-1])
        self.conv_out = nn.Conv2d(widths[-1], config.pictures, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        """Map latents [B, latent, h, w] to pictures [B, pictures, h * factor, w * factor]."""
        x = self.levels(self.middle(self.conv_in(latents)))
        pictures: Tensor = self.conv_out(functional.silu(self.norm_out(x)))
        return pictures
