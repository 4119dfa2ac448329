"""3x3 convolutions of large maps by Winograd's minimal filtering, for CPUs.

Tiles of 4 x 4 outputs need 36 products for every pair of channels instead of 144. Maps are worked
off in blocks that stay in the caches; the sums before and after the products are compiled, without
which they would cost what the products save. Points of 0, 1, -1, 1/2 and -2 keep the errors of
float32 within about three times those of a plain convolution of maps held pixel by pixel.

Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016
(arXiv:1509.09308); Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", 2018 (arXiv:1803.10986), for the points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
TILE = 4  # outputs along each side of a tile
READ = TILE + 2  # inputs along each side of a tile
BLOCK = (32, 64)  # rows and columns of outputs that are worked off at once
LEAST_CHANNELS = 128  # with fewer, a plain convolution is as fast
LEAST_FILLED = 0.75  # of the blocks' area, below which a plain convolution is as fast

_Table = list[list[float]]


def _tables() -> tuple[_Table, _Table, _Table]:
    """Return what is applied to inputs [6, 6], whole kernels [36, 9] and products [4, 6]."""
    points = np.array(POINTS)
    others = [np.delete(points, index) for index in range(len(points))]
    scales = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    powers = points[:, None] ** np.arange(TILE)
    inputs = [[*np.poly(rest)[::-1], 0.0] for rest in others] + [np.poly(points)[::-1]]
    kernels = np.vstack([powers[:, :3] / scales[:, None], [0.0, 0.0, 1.0]])
    products = np.hstack([powers.T, np.eye(TILE)[:, -1:]])
    return np.array(inputs).tolist(), np.kron(kernels, kernels).tolist(), products.tolist()


INPUTS, KERNELS, PRODUCTS = _tables()


def _sum(factors: list[float], parts: list[Tensor]) -> Tensor:
    """Return the sum of parts times factors, without those of 0."""
    terms = (part * factor for factor, part in zip(factors, parts, strict=True) if factor)
    return functools.reduce(torch.add, terms)


def _both_ways(table: _Table, parts: list[list[Tensor]]) -> list[list[Tensor]]:
    """Apply a table to the rows and to the columns of a square of tensors."""
    half = [[_sum(row, list(column)) for column in zip(*parts, strict=True)] for row in table]
    return [[_sum(row, parts) for row in table] for parts in half]


def to_tiles(window: Tensor) -> Tensor:
    """Return what the products read of a block and its edge.

    Args:
        window: float [rows + 2, columns + 2, channels], rows and columns multiples of 4.

    Returns:
        float [36, rows / 4, columns / 4, channels].
    """
    rows, columns = (side - READ + 1 for side in window.shape[:2])
    parts = [
        [window[top : top + rows : TILE, left : left + columns : TILE] for left in range(READ)]
        for top in range(READ)
    ]
    return torch.stack([each for row in _both_ways(INPUTS, parts) for each in row])


def from_tiles(products: Tensor, bias: Tensor) -> Tensor:
    """Return a block of outputs.

    Args:
        products: float [36, rows / 4, columns / 4, channels].
        bias: float [channels].

    Returns:
        float [rows / 4, 4, columns / 4, 4, channels].
    """
    parts = [list(row) for row in products.unflatten(0, (READ, READ))]
    found = _both_ways(PRODUCTS, parts)
    return torch.stack([torch.stack([each + bias for each in row], dim=2) for row in found], dim=1)


class Convolution3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size of its maps.

    Once compiled, it convolves large maps of float32 on CPUs by Winograd's minimal filtering,
    when no gradients are asked for.

    Args:
        inputs: channels.
        outputs: channels.
        bias: added to the outputs.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)
        self._sums: tuple[Callable[..., Tensor], Callable[..., Tensor]] | None = None

    def compile(self, **options: Any) -> None:
        """Compile the sums around the products.

        Args:
            **options: of `torch.compile`.
        """
        options = {**options, "dynamic": False}  # all blocks have the same shape
        self._sums = torch.compile(to_tiles, **options), torch.compile(from_tiles, **options)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        if self._sums is None or not self._pays(x):
            return super().forward(x)
        maps = x.permute(0, 2, 3, 1)
        kernels = self._kernels()
        bias = kernels.new_zeros(self.out_channels) if self.bias is None else self.bias
        window = maps.new_empty(BLOCK[0] + 2, BLOCK[1] + 2, self.in_channels)
        found = maps.new_empty(*maps.shape[:3], self.out_channels)
        before, after = self._sums
        for read, written in zip(maps, found, strict=True):
            for top in range(0, x.shape[2], BLOCK[0]):
                for left in range(0, x.shape[3], BLOCK[1]):
                    _fill(window, read, top, left)
                    tiles = before(window)
                    products = torch.bmm(tiles.flatten(1, 2), kernels)
                    block = after(products.view(*tiles.shape[:3], -1), bias).view(*BLOCK, -1)
                    place = written[top : top + BLOCK[0], left : left + BLOCK[1]]
                    place.copy_(block[: place.shape[0], : place.shape[1]])
        return found.permute(0, 3, 1, 2)

    def _kernels(self) -> Tensor:
        """Return float [36, inputs, outputs]."""
        weight = self.weight.flatten(2).permute(2, 1, 0)  # [9, inputs, outputs]
        return (torch.tensor(KERNELS) @ weight.flatten(1)).view(-1, *weight.shape[1:])

    def _pays(self, x: Tensor) -> bool:
        learns = torch.is_grad_enabled() and (x.requires_grad or self.weight.requires_grad)
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if learns or not plain or torch.is_autocast_enabled("cpu"):
            return False
        high, wide = (-(-side // block) for side, block in zip(x.shape[2:], BLOCK, strict=True))
        filled = x.shape[2] * x.shape[3] / (high * BLOCK[0] * wide * BLOCK[1])
        return filled >= LEAST_FILLED and min(self.weight.shape[:2]) >= LEAST_CHANNELS


def _fill(window: Tensor, read: Tensor, top: int, left: int) -> None:
    """Copy a block of a map [H, W, channels] and its edge, zeros beyond the map."""
    first_row, first_column = max(top - 1, 0), max(left - 1, 0)
    part = read[first_row : top + BLOCK[0] + 1, first_column : left + BLOCK[1] + 1]
    if part.shape != window.shape:
        window.zero_()
    place = window[first_row - top + 1 :, first_column - left + 1 :]
    place[: part.shape[0], : part.shape[1]] = part
