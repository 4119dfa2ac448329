"""Rotary positions (Su et al., arXiv:2104.09864) on grids, with adjacent channels as pairs."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from limner.core.layout import Layout


def axis_angles(coordinates: Tensor, width: int, base: float) -> Tensor:
    """Return float32 [..., width / 2]: coordinate times frequency base^(-2j / width).

    Args:
        coordinates: int64 or float [...], along one axis.
        width: channels this axis rotates; even.
    """
    frequencies = 1.0 / base ** (torch.arange(0, width, 2).float() / width)
    return coordinates.float().unsqueeze(-1) * frequencies


@lru_cache(maxsize=64)
def grid_rotation(
    layout: Layout, head_width: int, base: float, device: torch.device, dtype: torch.dtype
) -> Tensor:
    """Return every token's rotation, `dtype` [N + 1, head_width / 2, 2] (cosines, sines).

    Rows turn the first half of the pairs, columns the second. Entry 0 is all zeros: LlamaGen gives
    it to prefix tokens, whose rotated queries and keys are then zero vectors (not unturned ones),
    and its checkpoints depend on it. Token i stands at entry i + 1.
    """
    place = layout.coordinates()
    half = head_width // 2
    angles = torch.cat(
        [axis_angles(place[:, 2], half, base), axis_angles(place[:, 3], half, base)], dim=-1
    )
    table = torch.stack([angles.cos(), angles.sin()], dim=-1)
    return torch.cat([torch.zeros_like(table[:1]), table]).to(device, dtype)


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn adjacent channel pairs.

    Args:
        x: float [R, heads, L, d].
        rotation: float [R or 1, 1, L, d / 2, 2], cosines and sines.
    """
    pairs = x.to(rotation.dtype).unflatten(-1, (-1, 2))
    if torch.compiler.is_compiling():  # which joins these steps, and knows no complex numbers
        (even, odd), (cos, sin) = pairs.unbind(-1), rotation.unbind(-1)
        turned = torch.stack([even * cos - odd * sin, odd * cos + even * sin], dim=-1)
    else:  # a pair is a complex number, and turning it is one multiplication
        turned = torch.view_as_real(torch.view_as_complex(pairs) * torch.view_as_complex(rotation))
    return turned.flatten(-2).to(x.dtype)
