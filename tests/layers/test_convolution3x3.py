"""3x3 convolutions by blocks against plain ones."""

from __future__ import annotations

from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.bench.counting import counted
from limner.bench.work import Convolution
from limner.layers.convolution import ResNetBlock
from limner.layers.convolution3x3 import (
    Convolution3x3,
    add_normalised_convolution,
    normalised_convolution,
)


def layer(inputs: int = 128, outputs: int = 160, bias: bool = True) -> Convolution3x3:
    torch.manual_seed(0)
    return Convolution3x3(inputs, outputs, bias)


def plainly(convolution: Convolution3x3, x: Tensor) -> Tensor:
    return functional.conv2d(x, convolution.weight, convolution.bias, padding=1)


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (128, 64), (61, 62), (64, 100), (120, 190)])
def test_large_maps_differ_by_rounding_alone(size: tuple[int, int], bias: bool) -> None:
    """Whole blocks and cut ones; 2.0e-5 was measured, up to 0.9e-5 of plain convolutions."""
    convolution = layer(bias=bias)
    x = torch.randn(2, 128, *size)
    wanted = deepcopy(convolution).double()(x.double())
    found = convolution(x)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(found, plainly(convolution, x))  # it went the other way
    assert (found - wanted).abs().max() / wanted.std() < 4e-5


@torch.no_grad()
@pytest.mark.parametrize(
    ("channels", "size", "dtype"),
    [
        ((128, 160), (32, 64), torch.float32),  # half a block
        ((128, 160), (70, 70), torch.float32),  # four blocks, a third of them filled
        ((64, 160), (64, 64), torch.float32),
        ((128, 3), (64, 64), torch.float32),
        ((128, 160), (64, 64), torch.float64),
    ],
)
def test_where_it_does_not_pay_convolutions_are_plain(
    channels: tuple[int, int], size: tuple[int, int], dtype: torch.dtype
) -> None:
    convolution = layer(*channels).to(dtype)
    x = torch.randn(1, channels[0], *size, dtype=dtype)
    assert torch.equal(convolution(x), plainly(convolution, x))


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (61, 62), (64, 100)])
@pytest.mark.parametrize("ordered", [torch.contiguous_format, torch.channels_last])
def test_normalised_maps_differ_by_rounding_alone(
    size: tuple[int, int], ordered: torch.memory_format
) -> None:
    """Means far from zero, other ones in every picture and channel."""
    convolution, norm = layer(), nn.GroupNorm(32, 128, eps=1e-6)
    for parameter in norm.parameters():
        parameter.copy_(torch.randn(128))
    x = torch.randn(2, 128, *size) * torch.rand(128, 1, 1) + 3 * torch.randn(2, 128, 1, 1)
    x = x.contiguous(memory_format=ordered)
    wanted = normalised_convolution(
        deepcopy(norm).double(), deepcopy(convolution).double(), x.double()
    )
    given = x.clone()
    found = normalised_convolution(norm, convolution, x)
    assert torch.equal(x, given)
    assert (found - wanted).abs().max() / wanted.std() < 4e-5


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (61, 62), (32, 32)])
@pytest.mark.parametrize("overwrites", [False, True])
def test_a_sum_takes_the_place_of_a_map_only_where_it_may(
    size: tuple[int, int], overwrites: bool
) -> None:
    convolution, norm = layer(), nn.GroupNorm(32, 128)
    x, total = torch.randn(2, 128, *size), torch.randn(2, 160, *size)
    wanted = total + normalised_convolution(norm, convolution, x)
    given = x.clone(), total.clone()
    found = add_normalised_convolution(total, norm, convolution, x, overwrites)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-5)
    assert torch.equal(x, given[0])
    by_blocks = size != (32, 32)
    assert (found is total) == (overwrites and by_blocks)
    assert found is total or torch.equal(total, given[1])


@torch.no_grad()
@pytest.mark.parametrize("outputs", [128, 160])
@pytest.mark.parametrize("ordered", [torch.contiguous_format, torch.channels_last])
def test_a_block_overwrites_what_it_is_given_only_if_it_is_told_so(
    outputs: int, ordered: torch.memory_format
) -> None:
    torch.manual_seed(0)
    block = ResNetBlock(128, outputs)
    x = torch.randn(2, 128, 64, 64).contiguous(memory_format=ordered)
    given = x.clone()
    wanted = deepcopy(block).double()(x.double())
    found = block(x)
    assert (found - wanted).abs().max() / wanted.std() < 4e-5
    assert torch.equal(x, given)
    assert torch.equal(block(x, overwrites=True), found)


def test_learning_goes_the_plain_way() -> None:
    convolution = layer()
    x = torch.randn(1, 128, 64, 64)
    assert torch.equal(convolution(x), plainly(convolution, x))
    convolution(x).square().sum().backward()
    assert convolution.weight.grad is not None


@torch.no_grad()
def test_a_row_is_convolved_alone() -> None:
    convolution, norm = layer(), nn.GroupNorm(32, 128)
    x = torch.randn(3, 128, 64, 64)
    whole, alone = (normalised_convolution(norm, convolution, part) for part in (x, x[1:2]))
    assert torch.equal(whole[1:2], alone)


@torch.no_grad()
def test_the_compiler_leaves_it_alone() -> None:
    convolution = layer()
    x = torch.randn(1, 128, 64, 64)
    compiled = torch.compile(convolution.forward, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(x), convolution(x))

    block = ResNetBlock(128, 128)
    whole = torch.compile(block.forward, backend="aot_eager", fullgraph=True)
    wanted = block(x)
    assert torch.equal(whole(x.clone()), wanted)
    assert torch.equal(whole(x, overwrites=True), wanted)


@torch.no_grad()
def test_it_is_counted_as_a_plain_convolution() -> None:
    convolution = layer()
    work = counted(lambda: convolution(torch.randn(1, 128, 64, 64)))
    assert work.times == {Convolution(1, 128, 160, 64, 64): 1}
    block = ResNetBlock(128, 160)
    work = counted(lambda: block(torch.randn(1, 128, 64, 64)))
    assert work.times == {
        Convolution(1, 128, 160, 64, 64): 1,
        Convolution(1, 160, 160, 64, 64): 1,
        Convolution(1, 128, 160, 64, 64, kernel=1): 1,
    }
