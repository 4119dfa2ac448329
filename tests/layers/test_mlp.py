"""The gated MLP and its gradients, which are written by hand."""

from __future__ import annotations

import torch
from torch.nn import functional

from limner.layers.mlp import SwiGLU


def test_swiglu_follows_its_equation() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(6, 10).double(), torch.randn(2, 3, 6, dtype=torch.float64)
    gate, value = x @ layer.gate.weight.T, x @ layer.value.weight.T
    expected = (gate * torch.sigmoid(gate) * value) @ layer.out.weight.T
    torch.testing.assert_close(layer(x), expected)


def test_gradients() -> None:
    torch.manual_seed(0)
    layer = SwiGLU(3, 4).double()
    x = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(layer, x)


def test_bfloat16_is_as_near_as_its_digits() -> None:
    torch.manual_seed(0)
    layer, x = SwiGLU(16, 32), torch.randn(4, 16)
    wanted = functional.silu(layer.gate(x)) * layer.value(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = layer(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), layer.out(wanted), rtol=0.1, atol=0.02)
