"""Signs of channels as bits of ids. Channel 0 is the most significant bit."""

from __future__ import annotations

import torch
from torch import Tensor

LARGEST = 62
"""Bits that an int64 id holds."""


def pack(bits: Tensor) -> Tensor:
    """Return the numbers of bits [..., n], int64 [...]."""
    return (bits.long() << _shifts(bits.shape[-1], bits.device)).sum(dim=-1)


def unpack(ids: Tensor, count: int) -> Tensor:
    """Return the bits of numbers [...], bool [..., count]."""
    return (ids.unsqueeze(-1) >> _shifts(count, ids.device)) & 1 == 1


def signs(bits: Tensor, like: Tensor | None = None) -> Tensor:
    """Return +1 for True and -1 for False, in the type of `like`."""
    dtype = torch.float32 if like is None else like.dtype
    return 2 * bits.to(dtype) - 1


def all_signs(count: int, like: Tensor) -> Tensor:
    """Return the signs of all numbers of `count` bits, [2^count, count]."""
    return signs(unpack(torch.arange(2**count, device=like.device), count), like)


def _shifts(count: int, device: torch.device) -> Tensor:
    return torch.arange(count - 1, -1, -1, device=device)
