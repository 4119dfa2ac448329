"""The Inception network whose features FID, KID, Inception Score and others are computed from.

Szegedy et al., "Rethinking the Inception architecture for computer vision" (arXiv:1512.00567), in
the version of TensorFlow's graph of 2015-12-05: means over windows count no padding, the last block
pools by maxima, there are 1008 classes. Facts from toshas/torch-fidelity
`feature_extractor_inceptionv3.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import DataError
from limner.layers.resize import resize

SIDE = 299
CLASSES = 1008


class Convolution(nn.Module):
    """Convolution without bias, batch normalisation by fixed statistics, ReLU.

    Args:
        inputs: channels.
        outputs: channels.
        kernel: height and width; one number for both.
        stride: of the convolution.
        padding: None: as much as keeps the size.
    """

    mean: Tensor
    variance: Tensor

    def __init__(
        self,
        inputs: int,
        outputs: int,
        kernel: int | tuple[int, int] = 1,
        stride: int = 1,
        padding: int | None = None,
    ) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        edge = (height // 2, width // 2) if padding is None else padding
        self.conv = nn.Conv2d(inputs, outputs, (height, width), stride, edge, bias=False)
        self.weight = nn.Parameter(torch.ones(outputs))
        self.bias = nn.Parameter(torch.zeros(outputs))
        self.register_buffer("mean", torch.zeros(outputs))
        self.register_buffer("variance", torch.ones(outputs))

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, h, w]."""
        x = self.conv(x)
        x = functional.batch_norm(x, self.mean, self.variance, self.weight, self.bias, eps=1e-3)
        return functional.relu(x)


class Branches(nn.ModuleList):
    """Modules that read the same input; their channels are concatenated."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, H, W] to [B, sum of the branches' channels, h, w]."""
        return torch.cat([branch(x) for branch in self], dim=1)


@dataclass(frozen=True, eq=False)
class InceptionFeatures:
    """What the network says of B pictures, at all depths that metrics read.

    Args:
        pool_64: after the first pooling, float [B, 64].
        pool_192: after the second pooling, [B, 192].
        pool_768: before the last reduction of size, [B, 768].
        pool_2048: before the classes, [B, 2048]: FID, KID, precision and recall.
        maps: [B, 192, 17, 17]: sFID, see `limner.metrics.frechet.spatial_features`.
        logits_unbiased: of the classes without their bias, [B, 1008]: Inception Score.
        logits: of the classes, [B, 1008].
    """

    pool_64: Tensor
    pool_192: Tensor
    pool_768: Tensor
    pool_2048: Tensor
    maps: Tensor
    logits_unbiased: Tensor
    logits: Tensor


class Inception(nn.Module):
    """Pictures of any size to features; without given weights they say nothing of use.

    Module names: `stem.{i}` are five convolutions, `blocks.{i}.{branch}.{place}` those of eleven
    blocks, `classes` the last layer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(
            Convolution(3, 32, 3, stride=2, padding=0),
            Convolution(32, 32, 3, padding=0),
            Convolution(32, 64, 3),
            Convolution(64, 80),
            Convolution(80, 192, 3, padding=0),
        )
        self.blocks = nn.Sequential(
            *(_fine(inputs, pooled) for inputs, pooled in ((192, 32), (256, 64), (288, 64))),
            _reduce_fine(),
            *(_middle(width) for width in (128, 160, 160, 192)),
            _reduce_middle(),
            _coarse(1280, _mean_pool()),
            _coarse(2048, nn.MaxPool2d(3, 1, 1)),
        )
        self.classes = nn.Linear(2048, CLASSES)
        self.requires_grad_(False)

    def forward(self, levels: Tensor) -> InceptionFeatures:
        """Return the features of pictures.

        Args:
            levels: uint8 [B, 3, H, W]. Published numbers are those of pictures as files hold them:
                pictures in [-1, 1] are rounded first (`limner.metrics.pixels.to_levels`).

        Raises:
            DataError: pictures of another shape or type.
        """
        if levels.dtype != torch.uint8 or levels.dim() != 4 or levels.shape[1] != 3:
            raise DataError(
                f"pictures of {levels.dtype} {list(levels.shape)} are not accepted: they must be "
                "uint8 [B, 3, H, W]"
            )
        pixels = resize(levels, (SIDE, SIDE)).to(self.classes.weight.dtype)
        return self._features((pixels - 128) / 128)

    def _features(self, x: Tensor) -> InceptionFeatures:
        first = functional.max_pool2d(self.stem[:3](x), 3, 2)
        second = functional.max_pool2d(self.stem[3:](first), 3, 2)
        inner = self.blocks[:6](second)
        third = self.blocks[6:8](inner)
        pooled = self.blocks[8:](third).mean(dim=(2, 3))
        tapped = self.blocks[6]
        assert isinstance(tapped, Branches)
        unbiased = pooled @ self.classes.weight.T
        return InceptionFeatures(
            pool_64=first.mean(dim=(2, 3)),
            pool_192=second.mean(dim=(2, 3)),
            pool_768=third.mean(dim=(2, 3)),
            pool_2048=pooled,
            maps=tapped[0](inner),  # once more, which costs little
            logits_unbiased=unbiased,
            logits=unbiased + self.classes.bias,
        )


def _fine(inputs: int, pooled: int) -> Branches:
    """Return a block of 35 x 35 places; `pooled` channels come from the mean over windows."""
    return Branches(
        [
            nn.Sequential(Convolution(inputs, 64)),
            nn.Sequential(Convolution(inputs, 48), Convolution(48, 64, 5)),
            nn.Sequential(Convolution(inputs, 64), Convolution(64, 96, 3), Convolution(96, 96, 3)),
            nn.Sequential(_mean_pool(), Convolution(inputs, pooled)),
        ]
    )


def _reduce_fine() -> Branches:
    """Return the block from 35 x 35 to 17 x 17 places."""
    return Branches(
        [
            nn.Sequential(Convolution(288, 384, 3, stride=2, padding=0)),
            nn.Sequential(
                Convolution(288, 64),
                Convolution(64, 96, 3),
                Convolution(96, 96, 3, stride=2, padding=0),
            ),
            nn.MaxPool2d(3, 2),
        ]
    )


def _middle(width: int) -> Branches:
    """Return a block of 17 x 17 places; its long branches have `width` channels inside."""
    row, column = (1, 7), (7, 1)
    return Branches(
        [
            nn.Sequential(Convolution(768, 192)),
            nn.Sequential(
                Convolution(768, width),
                Convolution(width, width, row),
                Convolution(width, 192, column),
            ),
            nn.Sequential(
                Convolution(768, width),
                Convolution(width, width, column),
                Convolution(width, width, row),
                Convolution(width, width, column),
                Convolution(width, 192, row),
            ),
            nn.Sequential(_mean_pool(), Convolution(768, 192)),
        ]
    )


def _reduce_middle() -> Branches:
    """Return the block from 17 x 17 to 8 x 8 places."""
    return Branches(
        [
            nn.Sequential(Convolution(768, 192), Convolution(192, 320, 3, stride=2, padding=0)),
            nn.Sequential(
                Convolution(768, 192),
                Convolution(192, 192, (1, 7)),
                Convolution(192, 192, (7, 1)),
                Convolution(192, 192, 3, stride=2, padding=0),
            ),
            nn.MaxPool2d(3, 2),
        ]
    )


def _coarse(inputs: int, pool: nn.Module) -> Branches:
    """Return a block of 8 x 8 places."""
    return Branches(
        [
            nn.Sequential(Convolution(inputs, 320)),
            nn.Sequential(Convolution(inputs, 384), _fork()),
            nn.Sequential(Convolution(inputs, 448), Convolution(448, 384, 3), _fork()),
            nn.Sequential(pool, Convolution(inputs, 192)),
        ]
    )


def _fork() -> Branches:
    return Branches([Convolution(384, 384, (1, 3)), Convolution(384, 384, (3, 1))])


def _mean_pool() -> nn.AvgPool2d:
    return nn.AvgPool2d(3, 1, 1, count_include_pad=False)
