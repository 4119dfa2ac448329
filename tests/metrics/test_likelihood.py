"""Bits per dimension of distributions whose entropy is known."""

from __future__ import annotations

import math

import pytest
import torch

from limner.core.errors import ConfigError
from limner.metrics.likelihood import bits_per_dimension


def test_uniform_levels_take_eight_bits_however_they_are_modelled() -> None:
    pixels = 3 * 4 * 4
    counted = torch.full((2, pixels), math.log(256))
    assert bits_per_dimension(counted, pixels).tolist() == pytest.approx([8, 8])
    # the density of dequantised pixels in [0, 1] is 1, so its logarithm is 0
    assert bits_per_dimension(torch.zeros(1, 3, 4, 4), pixels, 256).tolist() == [8]
    # that of pixels in [-1, 1] is 1/2, and 255 steps lie between black and white
    halved = torch.full((1, pixels), math.log(2))
    assert bits_per_dimension(halved, pixels, 127.5).tolist() == pytest.approx([math.log2(255)])


def test_parts_of_a_picture_add_up() -> None:
    nats = torch.tensor([[1.0, 2.0, 3.0], [0.0, 0.0, 6.0]])
    assert bits_per_dimension(nats, 12).tolist() == pytest.approx([0.5 / math.log(2)] * 2)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match="dimensions=0"):
        bits_per_dimension(torch.zeros(1), 0)
