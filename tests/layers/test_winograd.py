"""Winograd's minimal filtering is a convolution."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from limner.layers.winograd import add_convolved, convolved


def double(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@pytest.mark.parametrize("size", [(64, 64), (1, 1), (3, 130), (65, 64), (70, 31), (130, 140)])
@pytest.mark.parametrize(("inputs", "outputs"), [(5, 3), (2, 4)])
def test_it_convolves_exactly_in_float64(size: tuple[int, int], inputs: int, outputs: int) -> None:
    torch.manual_seed(0)
    x, weight, bias = double(2, inputs, *size), double(outputs, inputs, 3, 3), double(outputs)
    for given in (bias, None):
        wanted = functional.conv2d(x, weight, given, padding=1)
        torch.testing.assert_close(convolved(x, weight, given), wanted, rtol=0, atol=1e-11)
        total = torch.ones_like(wanted)
        add_convolved(total, x, weight, given)
        torch.testing.assert_close(total, 1 + wanted, rtol=0, atol=1e-11)


@pytest.mark.parametrize("size", [(64, 64), (65, 70)])
def test_edges_stay_zero_when_inputs_are_shifted(size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    x, weight, scale, shift = double(2, 5, *size), double(3, 5, 3, 3), double(2, 5), double(2, 5)
    moved = functional.silu(x * scale[..., None, None] + shift[..., None, None])
    wanted = functional.conv2d(moved, weight, padding=1)
    found = convolved(x, weight, None, scale, shift)
    torch.testing.assert_close(found, wanted, rtol=0, atol=1e-11)
