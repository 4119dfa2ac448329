"""PatchGAN: a convolutional network that tells real patches of pictures from made ones.

Isola et al., "Image-to-image translation with conditional adversarial networks", CVPR 2017
(arXiv:1611.07004); as in CompVis/taming-transformers `taming/modules/discriminator/model.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.errors import check


@dataclass(frozen=True)
class DiscriminatorConfig:
    """Size of a PatchGAN.

    Args:
        channels: of the first layer; doubled by each later layer, up to eightfold.
        depth: strided layers; each doubles the patch that an output judges.
        pictures: channels of the pictures.
        actnorm: normalise by learned scales that start from the first batch, rather than by
            batch statistics.
    """

    channels: int = 64
    depth: int = 3
    pictures: int = 3
    actnorm: bool = False

    def __post_init__(self) -> None:
        for name in ("channels", "depth", "pictures"):
            check(getattr(self, name) > 0, name, getattr(self, name), "at least 1")


class ActNorm(nn.Module):
    """scale * (x + shift), so set that the first batch in training has mean 0 and variance 1.

    Source: Kingma and Dhariwal, "Glow", arXiv:1807.03039.
    """

    initialized: Tensor

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.shift = nn.Parameter(torch.zeros(1, channels, 1, 1))
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.register_buffer("initialized", torch.tensor(0, dtype=torch.uint8))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, channels, H, W] to the same shape."""
        if self.training and not self.initialized:
            self._start(x)
        return self.scale * (x + self.shift)

    @torch.no_grad()
    def _start(self, x: Tensor) -> None:
        self.shift.copy_(-x.mean(dim=(0, 2, 3), keepdim=True))
        self.scale.copy_(1 / (x.std(dim=(0, 2, 3), keepdim=True) + 1e-6))
        self.initialized.fill_(1)


class PatchDiscriminator(nn.Sequential):
    """Pictures [B, pictures, H, W] to one logit a patch, [B, 1, h, w]; real ones are positive.

    Args:
        config: its size.
    """

    def __init__(self, config: DiscriminatorConfig) -> None:
        widths = [config.channels * min(2**layer, 8) for layer in range(config.depth + 1)]
        layers: list[nn.Module] = [
            nn.Conv2d(config.pictures, widths[0], 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        for layer in range(1, config.depth + 1):
            inputs, outputs = widths[layer - 1 : layer + 1]
            stride = 2 if layer < config.depth else 1
            # batch statistics take the place of a bias
            bias = config.actnorm
            layers += [
                nn.Conv2d(inputs, outputs, 4, stride=stride, padding=1, bias=bias),
                ActNorm(outputs) if config.actnorm else nn.BatchNorm2d(outputs),
                nn.LeakyReLU(0.2),
            ]
        super().__init__(*layers, nn.Conv2d(widths[-1], 1, 4, padding=1))
        self.apply(_initialise)


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Conv2d):
        nn.init.normal_(module.weight, 0.0, 0.02)
    elif isinstance(module, nn.BatchNorm2d):
        nn.init.normal_(module.weight, 1.0, 0.02)
        nn.init.zeros_(module.bias)
