"""Convolutions over clips that never look ahead, as MAGVIT-v2 has them.

Yu et al., "Language model beats diffusion: tokenizer is key to visual generation",
arXiv:2310.05737; facts from nbp/magvit2.py of RenShuhuai-Andy/NBP.

Clips are [B, C, T, H, W]. At their borders in time and space values are repeated.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalConvolution3d(nn.Module):
    """A convolution that is padded in front alone in time, and on all sides in space.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: along each axis; odd.
        stride: frames, rows, columns.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 3, stride: tuple[int, int, int] = (1, 1, 1)
    ) -> None:
        super().__init__()
        side = kernel // 2
        self.padding = (side, side, side, side, kernel - 1, 0)
        self.conv = nn.Conv3d(inputs, outputs, kernel, stride)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, T, H, W] to [B, outputs, T', H', W']."""
        out: Tensor = self.conv(functional.pad(x, self.padding, mode="replicate"))
        return out


class FrameNorm(nn.GroupNorm):
    """Group norm of each frame by itself."""

    def forward(self, x: Tensor) -> Tensor:
        """Normalise [B, C, T, H, W]."""
        frames = super().forward(x.transpose(1, 2).flatten(0, 1))
        return frames.unflatten(0, (len(x), -1)).transpose(1, 2)


class LearnedSwish(nn.Module):
    """x sigmoid(beta x), with a beta for every channel.

    Args:
        channels: C.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.beta = nn.Parameter(torch.ones(1, channels, 1, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, T, H, W] to the same shape."""
        return x * torch.sigmoid(self.beta * x)


class ResidualUnit(nn.Module):
    """Two normalised, activated convolutions around a shortcut.

    Args:
        inputs: channels.
        outputs: channels.
        groups: of the norms.
    """

    def __init__(self, inputs: int, outputs: int, groups: int) -> None:
        super().__init__()
        self.norm1 = FrameNorm(groups, inputs)
        self.activation1 = LearnedSwish(inputs)
        self.conv1 = CausalConvolution3d(inputs, outputs)
        self.norm2 = FrameNorm(groups, outputs)
        self.activation2 = LearnedSwish(outputs)
        self.conv2 = CausalConvolution3d(outputs, outputs)
        same = inputs == outputs
        self.shortcut = nn.Identity() if same else CausalConvolution3d(inputs, outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, T, H, W] to [B, outputs, T, H, W]."""
        hidden = self.conv1(self.activation1(self.norm1(x)))
        hidden = self.conv2(self.activation2(self.norm2(hidden)))
        out: Tensor = hidden + self.shortcut(x)
        return out


class DepthToSpace(nn.Module):
    """Channels become neighbouring frames, rows and columns.

    Where frames are doubled, the first one is left out: 1 + k of them become 1 + 2 k.

    Args:
        frames: by how much they grow, 1 or 2; rows and columns are doubled.
    """

    def __init__(self, frames: int) -> None:
        super().__init__()
        self.frames = frames

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, 4 frames C, T, H, W] to [B, C, T', 2 H, 2 W]; the channel varies fastest."""
        # [B, frames, rows, columns, C, T, H, W]
        cells = x.unflatten(1, (self.frames, 2, 2, -1)).permute(0, 4, 5, 1, 6, 2, 7, 3)
        grown = cells.flatten(6, 7).flatten(4, 5).flatten(2, 3)
        return grown[:, :, self.frames - 1 :]
