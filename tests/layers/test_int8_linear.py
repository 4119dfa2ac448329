"""Rounded weights: near the layer's own, row by row, and for linear layers alone."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.core.seeds import seeded
from limner.layers.int8_linear import Int8Linear, round_to_int8
from limner.layers.linear import Linear
from limner.layers.mlp import SwiGLU


def layers(bias: bool = True) -> tuple[Linear, Int8Linear]:
    layer = Linear(96, 40, bias=bias)
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_(generator=seeded(0, str(parameter.shape)))
        layer.weight[3] = 0
    return layer, Int8Linear(layer)


@pytest.mark.parametrize("rows", [1, 5, 50])
@torch.no_grad()
def test_outputs_are_near_and_inputs_may_have_any_dimensions(rows: int) -> None:
    layer, rounded = layers()
    x = torch.randn(2, rows, 96, generator=seeded(0, "x"))
    found, wanted = rounded(x), layer(x)
    assert found.shape == wanted.shape and found.dtype == wanted.dtype
    assert (found - wanted).norm() < 0.02 * wanted.norm()


@torch.no_grad()
def test_the_weight_is_rounded_by_output_and_rows_stand_alone() -> None:
    layer, rounded = layers(bias=False)
    step = layer.weight.abs().amax(1, keepdim=True) / 127
    assert ((rounded.weight - layer.weight).abs() <= 0.501 * step).all()
    assert not rounded.weight[3].any()
    x = torch.randn(3, 96, generator=seeded(0, "x"))
    torch.testing.assert_close(rounded(x)[1:2], rounded(x[1:2]), rtol=0, atol=0)


def test_linear_layers_of_a_network_are_replaced() -> None:
    network = nn.Sequential(SwiGLU(16, 32), nn.LayerNorm(16), nn.Embedding(4, 16))
    round_to_int8(network)
    kinds = [type(part) for part in network[0].children()]
    assert kinds == [Int8Linear] * 3
    assert isinstance(network[1], nn.LayerNorm) and isinstance(network[2], nn.Embedding)
    state = network.state_dict()
    assert state["0.gate.codes"].dtype == torch.int8 and "0.gate.units" not in state
