"""ACDiT's positions: sines and cosines of several axes, mixed into queries and keys.

It looks like a rotation and is none: channels c and c + d / 2 are paired over the whole head, and
the two members of a pair may carry the angles of different axes. Checkpoints depend on it.

Source: `RopeND` in rope.py of thunlp/ACDiT (arXiv:2412.07720).
"""

from __future__ import annotations

import math
from functools import lru_cache

import torch
from torch import Tensor

from limner.core.layout import Layout

HEAD = 64
"""Channels of a head, which the frequencies are written for."""


def axis_widths(shares: tuple[int, ...]) -> tuple[int, ...]:
    """Return how many channels of a head each axis has, by its share."""
    return tuple(2 * share * (HEAD // 2 // sum(shares)) for share in shares)


def axis_base(length: int) -> int:
    """Return the base of the frequencies along an axis of so many places."""
    return (int(8 * length / math.pi) // 100 + 1) * 100


@lru_cache(maxsize=64)
def mixing_table(
    layout: Layout, shares: tuple[int, ...], device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return every token's cosines and sines, `dtype` [N, 2, 64]; do not write to it.

    Args:
        layout: a single grid.
        shares: of the axes in the channels of a head: rows and columns, or frames, rows, columns.
    """
    axes = range(3 - len(shares), 3)
    place = layout.coordinates()[:, 1:]
    parts = []
    for axis, width in zip(axes, axis_widths(shares), strict=True):
        # the exponents reach 1
        exponent = torch.linspace(0, HEAD, width // 2, dtype=torch.float64) / HEAD
        frequency = float(axis_base(layout.extent[axis])) ** -exponent
        angle = place[:, axis].double().unsqueeze(1) * frequency
        parts += [angle, angle]
    angles = torch.cat(parts, dim=1)
    return torch.stack([angles.cos(), angles.sin()], dim=1).to(device, dtype)


def mix_positions(x: Tensor, table: Tensor) -> Tensor:
    """Return queries or keys [R, heads, L, 64] with positions mixed in.

    Args:
        table: float [R or 1, 1, L, 2, 64], cosines and sines.
    """
    cosine, sine = table.to(x.dtype).unbind(-2)
    first, second = x.chunk(2, dim=-1)
    return x * cosine + torch.cat([-second, first], dim=-1) * sine
