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
    return coordinates.float().unsqueeze(-1) * frequencies.to(coordinates.device)


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
    table = plane_rotation(place[:, 2:], head_width, base)
    return torch.cat([torch.zeros_like(table[:1]), table]).to(device, dtype)


def axes_rotation(
    coordinates: Tensor, widths: tuple[int, ...], base: float, dtype: torch.dtype
) -> Tensor:
    """Return the rotations of places along several axes, each of which turns channels of its own.

    Angles are computed in float64, as diffusers 0.31 does (`get_1d_rotary_pos_embed`).

    Args:
        coordinates: int64 [L, axes].
        widths: channels that each axis turns; even.

    Returns:
        `dtype` [1, 1, L, sum of widths / 2, 2].
    """
    angles = []
    for place, width in zip(coordinates.double().unbind(-1), widths, strict=True):
        exponent = torch.arange(0, width, 2, dtype=torch.float64, device=place.device) / width
        angles.append(place.unsqueeze(-1) / base**exponent)
    angle = torch.cat(angles, dim=-1)
    return torch.stack([angle.cos(), angle.sin()], dim=-1).to(dtype)[None, None]


def line_rotation(position: Tensor, head_width: int, base: float, dtype: torch.dtype) -> Tensor:
    """Return the rotations of places on a line, `dtype` [R, 1, L, head_width / 2, 2].

    Args:
        position: int64 [R, L].
    """
    angles = axis_angles(position, head_width, base)
    return torch.stack([angles.cos(), angles.sin()], dim=-1).to(dtype).unsqueeze(1)


def plane_rotation(coordinates: Tensor, head_width: int, base: float) -> Tensor:
    """Return the rotations of places in a plane, float32 [..., head_width / 2, 2].

    Args:
        coordinates: int64 or float [..., 2], row and column.
        head_width: a multiple of 4.
        base: see `axis_angles`.
    """
    half = head_width // 2
    rows, columns = (axis_angles(axis, half, base) for axis in coordinates.unbind(-1))
    angles = torch.cat([rows, columns], dim=-1)
    return torch.stack([angles.cos(), angles.sin()], dim=-1)


def projected_rotation(
    layout: Layout,
    place: Tensor,
    head_width: int,
    reference: tuple[int, int],
    base: float,
    dtype: torch.dtype,
) -> Tensor:
    """Return rotations of tokens of a pyramid whose scales stand where a finest grid has them.

    A token's coordinates are those of the cell of the reference grid that its corner falls into,
    rounded to the nearest, halves to even (Infinity, arXiv:2412.04431).

    Args:
        place: int64 [R, L], tokens; on the device of the result.
        reference: rows and columns of the grid.
        dtype: of what is turned; rotations are float32 at least.

    Returns:
        float [R, 1, L, head_width / 2, 2].
    """
    wide = torch.promote_types(dtype, torch.float32)
    table = _projected_table(layout, head_width, reference, base, place.device, wide)
    return table[place].unsqueeze(1)


@lru_cache(maxsize=64)
def _projected_table(
    layout: Layout,
    head_width: int,
    reference: tuple[int, int],
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Return every token's rotation, `dtype` [N, head_width / 2, 2]."""
    sizes = torch.tensor([segment.size[1:] for segment in layout.segments])
    cell = torch.tensor(reference) / sizes[layout.segment_of()]
    coordinates = torch.round(layout.coordinates()[:, 2:] * cell)
    return plane_rotation(coordinates, head_width, base).to(device, dtype)


def spanning_rotation(
    layout: Layout, place: Tensor, head_width: int, span: float, base: float, dtype: torch.dtype
) -> Tensor:
    """Return rotations of tokens of a pyramid whose scales all lie over each other.

    Along each axis a scale spans 0 to `span`, however many places it has.

    Args:
        place: int64 [R, L], tokens; on the device of the result.
        dtype: of what is turned; rotations are float32 at least.

    Returns:
        float [R, 1, L, head_width / 2, 2].
    """
    wide = torch.promote_types(dtype, torch.float32)
    return _spanning_table(layout, head_width, span, base, place.device, wide)[place].unsqueeze(1)


@lru_cache(maxsize=64)
def _spanning_table(
    layout: Layout,
    head_width: int,
    span: float,
    base: float,
    device: torch.device,
    dtype: torch.dtype,
) -> Tensor:
    """Return every token's rotation, `dtype` [N, head_width / 2, 2]."""
    sizes = torch.tensor([segment.size[1:] for segment in layout.segments])
    coordinates = layout.coordinates()[:, 2:] * span / sizes[layout.segment_of()]
    return plane_rotation(coordinates, head_width, base).to(device, dtype)


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
