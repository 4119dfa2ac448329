"""3x3 convolutions by blocks against plain ones."""

from __future__ import annotations

import shutil
from copy import deepcopy

import pytest
import torch
from torch import Tensor, nn

from limner.layers.convolution3x3 import Convolution3x3, normalised_convolution


def layer(inputs: int = 128, outputs: int = 160, bias: bool = True) -> Convolution3x3:
    torch.manual_seed(0)
    return Convolution3x3(inputs, outputs, bias)


def exact(plain: Convolution3x3, x: Tensor) -> Tensor:
    return deepcopy(plain).double()(x.double())


def compiled(plain: Convolution3x3, backend: str = "eager") -> Convolution3x3:
    made = deepcopy(plain)
    made.compile(backend=backend)
    return made


@torch.no_grad()
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("size", [(64, 64), (128, 64), (61, 62), (64, 100), (120, 190)])
def test_large_maps_differ_by_rounding_alone(size: tuple[int, int], bias: bool) -> None:
    """Whole blocks and cut ones; 2.0e-5 was measured, up to 0.9e-5 of plain convolutions."""
    plain = layer(bias=bias)
    x = torch.randn(2, 128, *size)
    wanted = exact(plain, x)
    found = compiled(plain)(x)
    assert found.shape == wanted.shape
    assert found.is_contiguous(memory_format=torch.channels_last)
    assert not torch.equal(found, plain(x))  # it went the other way
    error = (found - wanted).abs().max() / wanted.std()
    assert error < 4e-5


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
    plain = layer(*channels).to(dtype)
    x = torch.randn(1, channels[0], *size, dtype=dtype)
    assert torch.equal(compiled(plain)(x), plain(x))


@torch.no_grad()
@pytest.mark.parametrize("size", [(64, 64), (61, 62), (64, 100)])
@pytest.mark.parametrize("ordered", [torch.contiguous_format, torch.channels_last])
def test_normalised_maps_differ_by_rounding_alone(
    size: tuple[int, int], ordered: torch.memory_format
) -> None:
    """Means far from zero, other ones in every picture and channel."""
    plain, norm = layer(), nn.GroupNorm(32, 128, eps=1e-6)
    for parameter in norm.parameters():
        parameter.copy_(torch.randn(128))
    x = torch.randn(2, 128, *size) * torch.rand(128, 1, 1) + 3 * torch.randn(2, 128, 1, 1)
    x = x.contiguous(memory_format=ordered)
    wanted = normalised_convolution(deepcopy(norm).double(), deepcopy(plain).double(), x.double())
    given = x.clone()
    found = normalised_convolution(norm, compiled(plain), x)
    assert torch.equal(x, given)
    assert not torch.equal(found, normalised_convolution(norm, plain, x))
    assert (found - wanted).abs().max() / wanted.std() < 4e-5


def test_learning_goes_the_plain_way() -> None:
    plain = layer()
    learner = compiled(plain)
    x = torch.randn(1, 128, 64, 64)
    for each in (plain, learner):
        each(x).square().sum().backward()
    assert plain.weight.grad is not None
    assert learner.weight.grad is not None
    assert torch.equal(plain.weight.grad, learner.weight.grad)


@torch.no_grad()
def test_changed_weights_are_read() -> None:
    learner = compiled(layer())
    x = torch.randn(1, 128, 64, 64)
    before = learner(x)
    learner.load_state_dict({name: 2 * part for name, part in learner.state_dict().items()})
    torch.testing.assert_close(learner(x), 2 * before)


@torch.no_grad()
def test_a_row_is_convolved_alone() -> None:
    learner = compiled(layer())
    x = torch.randn(3, 128, 64, 64)
    assert torch.equal(learner(x)[1:2], learner(x[1:2]))


@torch.no_grad()
@pytest.mark.slow
@pytest.mark.skipif(
    not any(shutil.which(name) for name in ("c++", "g++", "clang++")), reason="no C++ compiler"
)
def test_compiled_sums_agree_with_uncompiled_ones() -> None:
    plain = layer()
    x = torch.randn(1, 128, 64, 128)
    torch.testing.assert_close(compiled(plain, "inductor")(x), compiled(plain)(x))
