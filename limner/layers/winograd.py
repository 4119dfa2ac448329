"""Winograd's minimal filtering: sums that let a 3x3 convolution do with a quarter of the products.

Tiles of 4 x 4 outputs need 36 products for every pair of channels instead of 144. Points of 0, 1,
-1, 1/2 and -2 keep the errors of float32 within about three times those of a plain convolution of
maps held pixel by pixel. `limner.layers.convolution3x3` convolves by them.

Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016
(arXiv:1509.09308); Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", 2018 (arXiv:1803.10986), for the points.
"""

from __future__ import annotations

import functools

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
TILE = 4  # outputs along each side of a tile
READ = TILE + 2  # inputs along each side of a tile

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


def to_normalised_tiles(window: Tensor, inside: Tensor, scale: Tensor, shift: Tensor) -> Tensor:
    """Return what the products read of silu(window * scale + shift).

    Args:
        window: as for `to_tiles`.
        inside: bool [rows + 2, columns + 2, 1], false where the outcome is to be 0.
        scale: float [channels].
        shift: float [channels].

    Returns:
        as `to_tiles`.
    """
    return to_tiles(torch.where(inside, functional.silu(window * scale + shift), 0.0))


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


def to_kernels(weight: Tensor) -> Tensor:
    """Return what multiplies tiles, float [36, inputs, outputs].

    Args:
        weight: float [outputs, inputs, 3, 3].
    """
    weight = weight.flatten(2).permute(2, 1, 0)  # [9, inputs, outputs]
    return (weight.new_tensor(KERNELS) @ weight.flatten(1)).view(-1, *weight.shape[1:])
