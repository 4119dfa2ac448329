"""Perceptual distances: how different two pictures look, by the features of a network.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018
(arXiv:1801.03924); as in CompVis/taming-transformers `taming/modules/losses/lpips.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers.feature_distances import feature_distance
from limner.layers.features import ConvolutionStages

VGG16_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = (2, 2, 3, 3, 3)


class LPIPS(nn.Module):
    """A weighted squared distance of unit feature vectors, averaged over places.

    The weights are fixed; there is no dropout, also in training. Without given weights it
    measures nothing of use.

    Args:
        widths: channels of the five stages.
        stages: pictures -> the features of each stage; None: those of VGG16.
    """

    shift: Tensor
    scale: Tensor

    def __init__(
        self, widths: tuple[int, ...] = VGG16_WIDTHS, stages: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1))
        if stages is None:
            stages = ConvolutionStages(widths, _CONVOLUTIONS, _max_pool)
        self.stages = stages
        self.weights = nn.ParameterList(torch.ones(width) for width in widths)
        self.requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances of pictures [B, 3, H, W] in [-1, 1], float [B]."""
        features = self.features(first), self.features(second)
        return feature_distance(*features, self.weights)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of pictures [B, 3, H, W] in [-1, 1] at five depths."""
        features: list[Tensor] = self.stages((pictures - self.shift) / self.scale)
        return features


class FeatureDistance(nn.Module):
    """LPIPS's distance with equal weights, by the features of any network.

    It is not LPIPS: numbers of different networks cannot be compared.

    Args:
        network: pictures [B, 3, H, W] in [-1, 1] -> maps [B, C, h, w] at several depths, such as
            `FeatureNetwork`; it is frozen.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network.requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances of pictures [B, 3, H, W] in [-1, 1], float [B]."""
        maps = self.network(first), self.network(second)
        equal = [features.new_ones(features.shape[1]) for features in maps[0]]
        return feature_distance(*maps, equal)


def _max_pool(x: Tensor) -> Tensor:
    return functional.max_pool2d(x, 2)
