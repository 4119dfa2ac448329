"""Winograd's minimal filtering: 3x3 convolutions with a quarter of the products, for CPUs.

Tiles of 4 x 4 outputs need 36 products for every pair of channels instead of 144. Maps are worked
off in blocks that stay in the caches; the sums before and after the products are products with
small tables. Points of 0, 1, -1, 1/2 and -2 keep the errors of float32 within about three times
those of a plain convolution of maps held pixel by pixel.

Sources: Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks", CVPR 2016
(arXiv:1509.09308); Barabasz et al., "Error Analysis and Improving the Accuracy of Winograd
Convolution for Deep Neural Networks", 2018 (arXiv:1803.10986), for the points.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

BLOCK = (64, 64)  # rows and columns of outputs that are worked off at once
FEW_BLOCKS = 4  # up to which kernels are multiplied with faster than they are reordered
POINTS = (0.0, 1.0, -1.0, 0.5, -2.0)
TILE = 4  # outputs along each side of a tile
READ = TILE + 2  # inputs along each side of a tile
ONE = READ + 1  # the product of point 1 in rows and columns, which all outputs of a tile add


@functools.cache
def tables() -> tuple[Tensor, Tensor, Tensor]:
    """Return what inputs, kernels and products of a tile are multiplied by.

    Returns:
        float64 [6, 6] for inputs, row by row and column by column, [36, 9] for kernels and [16, 36]
        for products.
    """
    points = np.array(POINTS)
    others = [np.delete(points, index) for index in range(len(points))]
    scales = np.array([np.prod(point - rest) for point, rest in zip(points, others, strict=True)])
    powers = points[:, None] ** np.arange(TILE)
    inputs = [[*np.poly(rest)[::-1], 0.0] for rest in others] + [np.poly(points)[::-1]]
    kernels = np.vstack([powers[:, :3] / scales[:, None], [0.0, 0.0, 1.0]])
    products = np.hstack([powers.T, np.eye(TILE)[:, -1:]])
    first, second, third = (torch.from_numpy(np.array(one)) for one in (inputs, kernels, products))
    return first, torch.kron(second, second), torch.kron(third, third)


def convolved(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """Return the 3x3 convolution of x or, with a scale, of silu(x * scale + shift).

    Args:
        x: float [B, inputs, H, W]; what is convolved is 0 beyond its edges.
        weight: float [outputs, inputs, 3, 3].
        bias: float [outputs].
        scale: float [B, inputs].
        shift: float [B, inputs].

    Returns:
        float [B, outputs, H, W], held pixel by pixel.
    """
    found = x.new_empty(len(x), *x.shape[2:], len(weight)).permute(0, 3, 1, 2)
    _convolve(found, x, weight, bias, scale, shift, Tensor.copy_)
    return found


def add_convolved(
    total: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> None:
    """Add what `convolved` returns to a map [B, outputs, H, W], in place."""
    _convolve(total, x, weight, bias, scale, shift, Tensor.add_)


def _convolve(
    total: Tensor,
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    scale: Tensor | None,
    shift: Tensor | None,
    write: Callable[[Tensor, Tensor], Tensor],
) -> None:
    into, of_kernels, back = (table.to(x) for table in tables())
    kernels = (of_kernels @ weight.reshape(-1, 9).T).view(-1, *weight.shape[:2]).transpose(1, 2)
    if x.shape[2:].numel() > FEW_BLOCKS * BLOCK[0] * BLOCK[1]:
        kernels = kernels.contiguous()
    block = _Block(into, kernels, bias, back)
    maps, totals = x.permute(0, 2, 3, 1), total.permute(0, 2, 3, 1)
    for number, (read, written) in enumerate(zip(maps, totals, strict=True)):
        affine = None if scale is None or shift is None else (scale[number], shift[number])
        for top in range(0, x.shape[2], BLOCK[0]):
            for left in range(0, x.shape[3], BLOCK[1]):
                block.fill(read, top, left, affine)
                place = written[top : top + BLOCK[0], left : left + BLOCK[1]]
                found = block.convolved()
                if place.shape[:2] == BLOCK:
                    write(place.unflatten(1, (-1, TILE)).unflatten(0, (-1, TILE)), found)
                else:
                    write(place, found.reshape(*BLOCK, -1)[: place.shape[0], : place.shape[1]])


class _Block:
    """Room for a block of a map and what is computed of it, used again for every block."""

    def __init__(self, into: Tensor, kernels: Tensor, bias: Tensor | None, back: Tensor) -> None:
        self.into, self.kernels, self.bias, self.back = into, kernels, bias, back
        inputs, outputs = kernels.shape[1:]
        high, wide = BLOCK[0] // TILE, BLOCK[1] // TILE
        self.window = kernels.new_empty(BLOCK[0] + 2, BLOCK[1] + 2, inputs)
        row, column, _ = self.window.stride()
        self.overlapping = self.window.as_strided((high, READ, row), (TILE * row, row, 1))
        # what is computed of one room's numbers stands in the other
        one, other = kernels.new_empty(2, READ * READ * high * wide * max(inputs, outputs))
        self.rows = other[: high * READ * row].view(high, READ, row)
        strides = (row, column, READ * row, TILE * column, 1)
        self.tiles = self.rows.as_strided((READ, READ, high, wide, inputs), strides)
        self.inputs = one[: self.tiles.numel()].view(self.tiles.shape)
        self.factors = other[: self.tiles.numel()].view(READ * READ, high * wide, inputs)
        self.products = one[: READ * READ * high * wide * outputs].view(READ * READ, -1, outputs)
        self.outputs = other[: TILE * TILE * high * wide * outputs].view(TILE * TILE, -1)
        self.found = self.outputs.view(TILE, TILE, high, wide, outputs).permute(2, 0, 3, 1, 4)

    def fill(self, read: Tensor, top: int, left: int, affine: tuple[Tensor, Tensor] | None) -> None:
        """Take a block of a map [H, W, inputs] and its edge, zeros beyond the map."""
        first_row, first_column = max(top - 1, 0), max(left - 1, 0)
        part = read[first_row : top + BLOCK[0] + 1, first_column : left + BLOCK[1] + 1]
        above, before = first_row - top + 1, first_column - left + 1
        below, after = above + part.shape[0], before + part.shape[1]
        window = self.window
        for beyond in (window[:above], window[below:], window[:, :before], window[:, after:]):
            beyond.zero_()
        place = window[above:below, before:after]
        if affine is None:
            place.copy_(part)
        else:
            scale, shift = affine
            functional.silu(torch.addcmul(shift, part, scale, out=place), inplace=True)

    def convolved(self) -> Tensor:
        """Return the convolution of what was taken, by tiles: float [16, 4, 16, 4, outputs]."""
        into = self.into
        torch.bmm(into.expand(len(self.rows), -1, -1), self.overlapping, out=self.rows)
        self.inputs.copy_(self.tiles)
        factors = self.factors.view(READ, READ, -1)
        torch.bmm(into.expand(READ, -1, -1), self.inputs.flatten(2), out=factors)
        torch.bmm(self.factors, self.kernels, out=self.products)
        if self.bias is not None:
            self.products[ONE] += self.bias
        torch.mm(self.back, self.products.flatten(1), out=self.outputs)
        return self.found
