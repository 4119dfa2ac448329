"""Four neighbouring places of a map as one token, and back, by strided convolutions.

Source: `Simple_UVitBlock` in src/transformer.py of viiika/Meissonic (arXiv:2410.08261), with
`Downsample2D` and `Upsample2D` of huggingface/diffusers 0.31.0.
"""

from __future__ import annotations

from torch import Tensor, nn

from limner.layers.norms import RMSNorm

EPS = 1e-6


class HalveGrid(nn.Module):
    """RMS norm over channels, then a 2x2 convolution of stride 2.

    Args:
        width: channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, EPS)
        self.conv = nn.Conv2d(width, width, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [R, rows, columns, width], both even, to half as many of each."""
        halved: Tensor = self.conv(self.norm(x).movedim(-1, 1))
        return halved.movedim(1, -1)


class DoubleGrid(nn.Module):
    """RMS norm over channels, then a 2x2 transposed convolution of stride 2.

    Args:
        width: channels in and out.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = RMSNorm(width, EPS)
        self.conv = nn.ConvTranspose2d(width, width, 2, stride=2, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [R, rows, columns, width] to twice as many rows and columns."""
        doubled: Tensor = self.conv(self.norm(x).movedim(-1, 1))
        return doubled.movedim(1, -1)
