"""Calls of networks are counted, within the block alone."""

from __future__ import annotations

import torch
from torch import nn

from limner.decoding.passes import counted_passes


def test_calls_are_counted_within_the_block_alone() -> None:
    inner = nn.Identity()
    network = nn.Sequential(inner, inner)
    with counted_passes(network=network, inner=inner) as passes:
        network(torch.zeros(1))
    network(torch.zeros(1))
    assert passes == {"network": 1, "inner": 2}
