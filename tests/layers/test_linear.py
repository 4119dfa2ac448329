"""The linear layer computes what PyTorch's does, by either library."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers import linear as module
from limner.layers.linear import ACTIVATIONS, Linear, linear

ROWS, INPUTS, OUTPUTS = 48, 512, 768  # large enough for oneDNN
OWN = "GeneratedBackwardFor_limner_product"


def given(dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    rng = torch.Generator().manual_seed(0)
    shapes = ((2, ROWS // 2, INPUTS), (OUTPUTS, INPUTS), (OUTPUTS,))
    return tuple(torch.randn(shape, generator=rng).to(dtype).requires_grad_() for shape in shapes)  # type: ignore[return-value]


@pytest.mark.skipif(not module._HAS_ONEDNN, reason="this build of PyTorch has no oneDNN beside MKL")
def test_large_products_in_float32_go_another_way() -> None:
    x, weight, _ = given()
    assert OWN in str(linear(x, weight).grad_fn)
    assert OWN not in str(linear(x[:, :1], weight[:8]).grad_fn)
    assert OWN not in str(linear(x.double(), weight.double()).grad_fn)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert linear(x, weight).dtype == torch.bfloat16


@pytest.mark.parametrize("biased", [False, True])
def test_values_and_gradients_are_pytorchs(biased: bool) -> None:
    x, weight, bias = given()
    inputs = (x, weight, bias) if biased else (x, weight)
    found, wanted = linear(*inputs), functional.linear(*inputs)
    torch.testing.assert_close(found, wanted, rtol=1e-5, atol=1e-4)
    slope = torch.randn(found.shape, generator=torch.Generator().manual_seed(1))
    for ours, theirs in zip(
        torch.autograd.grad(found, inputs, slope), torch.autograd.grad(wanted, inputs, slope)
    ):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("rows", [1, 2, 4, 5, 16])
@pytest.mark.parametrize("inputs", [INPUTS, 2 * INPUTS, 5 * INPUTS])
@pytest.mark.parametrize("intel", [False, True])
@torch.no_grad()
def test_a_few_rows_without_gradients(
    rows: int, inputs: int, intel: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "is_intel", lambda: intel)
    rng = torch.Generator().manual_seed(0)
    x = torch.randn(rows, 1, inputs, generator=rng)
    weight = torch.randn(OUTPUTS, inputs, generator=rng)
    found = linear(x, weight)
    assert found.is_contiguous() and found.shape == (rows, 1, OUTPUTS)
    torch.testing.assert_close(found, functional.linear(x, weight), rtol=1e-5, atol=1e-3)


def test_gradients_of_gradients() -> None:
    x, weight, _ = given()
    seconds = []
    for product in (linear, functional.linear):
        (first,) = torch.autograd.grad(product(x, weight).square().sum(), x, create_graph=True)
        seconds.append(torch.autograd.grad(first.square().sum(), weight)[0])
    torch.testing.assert_close(
        seconds[0] / seconds[1].abs().max(), seconds[1] / seconds[1].abs().max()
    )


def test_a_layer_is_a_linear_layer() -> None:
    layer = Linear(INPUTS, OUTPUTS)
    assert isinstance(layer, nn.Linear)
    assert set(layer.state_dict()) == {"weight", "bias"}
    x = torch.randn(ROWS, INPUTS, generator=torch.Generator().manual_seed(0)).T.contiguous().T
    torch.testing.assert_close(layer(x), x @ layer.weight.T + layer.bias, rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("name", ACTIVATIONS)
@pytest.mark.parametrize("rows", [2, ROWS])
def test_an_activation_follows_whether_or_not_it_is_fused(name: str, rows: int) -> None:
    x, weight, bias = given()
    x = x.flatten(0, 1)[:rows]
    wanted = ACTIVATIONS[name].alone(functional.linear(x, weight, bias))
    torch.testing.assert_close(linear(x, weight, bias, name), wanted, rtol=1e-5, atol=1e-4)
    with torch.no_grad():
        torch.testing.assert_close(linear(x, weight, bias, name), wanted, rtol=1e-5, atol=1e-4)
