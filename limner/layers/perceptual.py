"""LPIPS: how different two pictures look, by the features of a network that classifies pictures.

Zhang et al., "The unreasonable effectiveness of deep features as a perceptual metric", CVPR 2018
(arXiv:1801.03924); as in CompVis/taming-transformers `taming/modules/losses/lpips.py`.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

VGG16_WIDTHS = (64, 128, 256, 512, 512)
_CONVOLUTIONS = (2, 2, 3, 3, 3)


class VGGStages(nn.ModuleList):
    """The 13 convolutions of VGG16, in five stages; each but the first begins with pooling.

    Module names: `{stage}.{i}`, the i-th convolution of a stage.

    Args:
        widths: channels of each stage.

    Source: Simonyan and Zisserman, arXiv:1409.1556.
    """

    def __init__(self, widths: tuple[int, ...] = VGG16_WIDTHS) -> None:
        super().__init__()
        inputs = 3
        for width, count in zip(widths, _CONVOLUTIONS, strict=True):
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
                x = nn.functional.max_pool2d(x, 2)
            for convolution in stage:
                x = nn.functional.relu(convolution(x))
            features.append(x)
        return features


class LPIPS(nn.Module):
    """A weighted squared distance of unit feature vectors, averaged over places.

    The weights are fixed; there is no dropout, also in training. Without given weights it
    measures nothing of use.

    Args:
        widths: channels of the five stages.
    """

    shift: Tensor
    scale: Tensor

    def __init__(self, widths: tuple[int, ...] = VGG16_WIDTHS) -> None:
        super().__init__()
        self.register_buffer("shift", torch.tensor([-0.030, -0.088, -0.188]).reshape(1, 3, 1, 1))
        self.register_buffer("scale", torch.tensor([0.458, 0.448, 0.450]).reshape(1, 3, 1, 1))
        self.stages = VGGStages(widths)
        self.weights = nn.ParameterList(torch.ones(width) for width in widths)
        self.requires_grad_(False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Return the distances of pictures [B, 3, H, W] in [-1, 1], float [B]."""
        distances = [
            ((_unit(a) - _unit(b)).square() * weight.reshape(1, -1, 1, 1)).sum(1).mean(dim=(1, 2))
            for a, b, weight in zip(
                self.features(first), self.features(second), self.weights, strict=True
            )
        ]
        return torch.stack(distances).sum(dim=0)

    def features(self, pictures: Tensor) -> list[Tensor]:
        """Return the features of pictures [B, 3, H, W] in [-1, 1] at five depths."""
        features: list[Tensor] = self.stages((pictures - self.shift) / self.scale)
        return features


def _unit(features: Tensor) -> Tensor:
    return features / (features.square().sum(dim=1, keepdim=True).sqrt() + 1e-10)
