"""Winograd's minimal filtering is a convolution."""

from __future__ import annotations

import torch
from torch.nn import functional

from limner.layers.winograd import from_tiles, to_kernels, to_normalised_tiles, to_tiles


def test_the_tables_convolve_exactly() -> None:
    """In float64, a block of 8 x 12 places is what a convolution of it and its edge gives."""
    torch.manual_seed(0)
    window, weight, bias = (
        torch.randn(*shape, dtype=torch.float64) for shape in ((10, 14, 5), (3, 5, 3, 3), (3,))
    )
    tiles = to_tiles(window)
    assert tiles.shape == (36, 2, 3, 5)
    products = torch.einsum("pabi,pio->pabo", tiles, to_kernels(weight))
    found = from_tiles(products, bias).reshape(8, 12, 3)
    wanted = functional.conv2d(window.permute(2, 0, 1), weight, bias).permute(1, 2, 0)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-12)


def test_normalised_tiles_are_zero_outside() -> None:
    torch.manual_seed(0)
    window, scale, shift = torch.randn(10, 14, 5), torch.randn(5), torch.randn(5)
    inside = torch.zeros(10, 14, 1, dtype=torch.bool)
    inside[1:, :-3] = True
    held = torch.zeros_like(window)
    held[1:, :-3] = functional.silu(window * scale + shift)[1:, :-3]
    found = to_normalised_tiles(window, inside, scale, shift)
    torch.testing.assert_close(found, to_tiles(held))
