"""AlexNet's convolutions, the trunk of LPIPS that its authors measure with.

Krizhevsky, "One weird trick for parallelizing convolutional neural networks" (arXiv:1404.5997), as
torchvision has it.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional

from limner.layers.perceptual import LPIPS

ALEXNET_WIDTHS = (64, 192, 384, 256, 256)
_KERNELS = (11, 5, 3, 3, 3)
_POOLED = (1, 2)
"""Convolutions that read pooled features."""


class AlexNetStages(nn.ModuleList):
    """The five convolutions of AlexNet, each a stage of its own.

    Module names: `{stage}.0`.

    Args:
        widths: channels of each stage.
    """

    def __init__(self, widths: tuple[int, ...] = ALEXNET_WIDTHS) -> None:
        super().__init__()
        inputs = 3
        for stage, (width, kernel) in enumerate(zip(widths, _KERNELS, strict=True)):
            stride, padding = (4, 2) if stage == 0 else (1, kernel // 2)
            self.append(nn.ModuleList([nn.Conv2d(inputs, width, kernel, stride, padding)]))
            inputs = width

    def forward(self, pictures: Tensor) -> list[Tensor]:
        """Return the features at the end of every stage, float [B, width, h, w] each."""
        features: list[Tensor] = []
        x = pictures
        for index, stage in enumerate(self):
            assert isinstance(stage, nn.ModuleList)
            if index in _POOLED:
                x = functional.max_pool2d(x, 3, 2)
            x = functional.relu(stage[0](x))
            features.append(x)
        return features


class AlexNetLPIPS(LPIPS):
    """LPIPS by the features of AlexNet.

    Args:
        widths: channels of the five stages.
    """

    def __init__(self, widths: tuple[int, ...] = ALEXNET_WIDTHS) -> None:
        super().__init__(widths, AlexNetStages(widths))
