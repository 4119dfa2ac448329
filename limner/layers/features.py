"""A small network whose features say what pictures look like, at several depths.

Plain convolutions, as those of VGG (Simonyan and Zisserman, arXiv:1409.1556), but few of them, and
pooled by means rather than maxima: that lets a gradient reach every pixel alike (Ding et al.,
"Image quality assessment: unifying structure and texture similarity", arXiv:2004.07728).
`tools/train_features.py` learns the weights that `limner.hub.packaged` loads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import DataError, check

SMALLEST = 16
"""Least height and width of the pictures, in pixels."""


class ConvolutionStages(nn.ModuleList):
    """3x3 convolutions with ReLU, in stages; each stage but the first begins with pooling.

    Module names: `{stage}.{i}`, the i-th convolution of a stage.

    Args:
        widths: channels of each stage.
        convolutions: how many each stage has.
        pool: halves height and width.
    """

    def __init__(
        self, widths: Sequence[int], convolutions: Sequence[int], pool: Callable[[Tensor], Tensor]
    ) -> None:
        super().__init__()
        self.pool = pool
        inputs = 3
        for width, count in zip(widths, convolutions, strict=True):
            sizes = [inputs, *[width] * count]
            self.append(
                nn.ModuleList(nn.Conv2d(sizes[k], sizes[k + 1], 3, padding=1) for k in range(count))
            )
            inputs = width

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the features at the end of every stage, float [B, width, h, w] each."""
        features: list[Tensor] = []
        x = pictures
        for index, stage in enumerate(self):
            assert isinstance(stage, nn.ModuleList)
            if index > 0:
                x = self.pool(x)
            for convolution in stage:
                x = functional.relu(convolution(x))
            features.append(x)
        return features


@dataclass(frozen=True)
class FeatureConfig:
    """Size of a feature network.

    Args:
        widths: channels of each stage, fine to coarse.
        convolutions: how many each stage has.
    """

    widths: tuple[int, ...] = (16, 32, 64, 128, 160)
    convolutions: tuple[int, ...] = (1, 2, 2, 2, 1)

    def __post_init__(self) -> None:
        fits = 1 <= len(self.widths) <= 5 and min(self.widths) > 0
        check(fits, "widths", self.widths, "one to five positive numbers")
        fits = len(self.convolutions) == len(self.widths) and min(self.convolutions) > 0
        check(fits, "convolutions", self.convolutions, "a positive number for each of `widths`")


class FeatureNetwork(nn.Module):
    """Feature maps of pictures of any size, and their means as one vector a picture.

    Without learned weights (`limner.hub.packaged.load_features`) it says little.

    Args:
        config: its size.
    """

    def __init__(self, config: FeatureConfig | None = None) -> None:
        super().__init__()
        self.config = config or FeatureConfig()
        self.stages = ConvolutionStages(self.config.widths, self.config.convolutions, _mean_pool)

    @property
    def width(self) -> int:
        """Numbers in a vector."""
        return sum(self.config.widths)

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the feature maps of all stages, fine to coarse.

        Args:
            pictures: float [B, 3, H, W] in [-1, 1], of 16 pixels or more along each side.

        Returns:
            float [B, widths[i], H / 2**i, W / 2**i], rounded up.

        Raises:
            DataError: pictures of another shape.
        """
        fits = pictures.ndim == 4 and pictures.shape[1] == 3 and min(pictures.shape[2:]) >= SMALLEST
        if not fits:
            raise DataError(
                f"pictures of shape {list(pictures.shape)} are not accepted: they must be "
                f"[B, 3, H, W] of at least {SMALLEST} x {SMALLEST} pixels"
            )
        maps: list[Tensor] = self.stages(pictures)
        return maps

    def vectors(self, pictures: Tensor) -> Tensor:
        """Return the means of all maps over their places, float [B, width]."""
        return torch.cat([features.mean(dim=(2, 3)) for features in self(pictures)], dim=1)


def _mean_pool(x: Tensor) -> Tensor:
    """Halve a map; the last row and column of an odd size count too."""
    return functional.avg_pool2d(x, 2, ceil_mode=True, count_include_pad=False)
