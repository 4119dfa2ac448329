"""Convolutions fitted in closed form."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from limner.layers.least_squares import fit_convolution


@pytest.mark.parametrize("padding_mode", ["zeros", "replicate"])
def test_recovers_the_convolution_that_made_the_targets(padding_mode: str) -> None:
    torch.manual_seed(0)
    made, fitted = (
        nn.Conv2d(3, 5, 3, padding=1, padding_mode=padding_mode).requires_grad_(False)
        for _ in range(2)
    )
    inputs = torch.randn(150, 3, 6, 7)  # more than one batch
    fit_convolution(fitted, inputs, made(inputs), penalty=1e-9)
    torch.testing.assert_close(fitted.weight, made.weight, atol=1e-4, rtol=0)
    torch.testing.assert_close(fitted.bias, made.bias, atol=1e-4, rtol=0)


def test_inputs_that_say_nothing_leave_the_mean() -> None:
    conv = nn.Conv2d(1, 2, 3, padding=1).requires_grad_(False)
    inputs = torch.randn(64, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    targets = torch.tensor([2.0, -1.0])[:, None, None].expand(64, 2, 8, 8)
    fit_convolution(conv, inputs, targets)
    torch.testing.assert_close(conv(inputs), targets.contiguous(), atol=1e-3, rtol=0)
