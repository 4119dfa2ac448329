"""Rotary positions turn pairs of channels."""

from __future__ import annotations

import math

import pytest
import torch

from limner.layers.rotary import rotate


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_pairs_are_turned_by_their_angle(dtype: torch.dtype) -> None:
    wide = torch.float64 if dtype == torch.float64 else torch.float32
    x = torch.tensor([1.0, 0.0, 0.0, 2.0], dtype=dtype).expand(1, 2, 3, 4)
    angles = torch.tensor([[0.0, 0.0], [math.pi / 2, math.pi], [0.3, 0.0]], dtype=wide)
    rotation = torch.stack([angles.cos(), angles.sin()], dim=-1)[None, None]
    turned = rotate(x, rotation)
    assert turned.dtype == dtype
    expected = [[1, 0, 0, 2], [0, 1, 0, -2], [math.cos(0.3), math.sin(0.3), 0, 2]]
    digits = 4e-3 if dtype == torch.bfloat16 else 1e-6
    for head in range(2):
        found = turned[0, head].double()
        torch.testing.assert_close(found, torch.tensor(expected).double(), rtol=0, atol=2 * digits)


def test_parts_of_a_projection_can_be_turned() -> None:
    """Queries and keys are views with strides of their own."""
    torch.manual_seed(0)
    projected = torch.randn(2, 5, 3, 4, 6, dtype=torch.float64, requires_grad=True)
    angles = torch.randn(2, 1, 5, 3, dtype=torch.float64)
    rotation = torch.stack([angles.cos(), angles.sin()], dim=-1)
    query, key, _ = (part.transpose(1, 2) for part in projected.unbind(2))
    for part in (query, key):
        turned = rotate(part, rotation)
        torch.testing.assert_close(turned, rotate(part.contiguous(), rotation))
        torch.testing.assert_close(turned.norm(dim=-1), part.norm(dim=-1))  # lengths stay
    assert torch.autograd.gradcheck(lambda part: rotate(part, rotation), query)
