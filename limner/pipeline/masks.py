"""Masks: which part of a picture is drawn anew."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import ConfigError, check
from limner.core.layout import Layout


def check_mask(mask: Tensor, size: tuple[int, int]) -> None:
    """Raise ConfigError unless the mask is of this size, and neither empty nor full."""
    shape = "x".join(map(str, mask.shape))
    check(tuple(mask.shape) == size, "mask", shape, f"of the picture's size, {size[0]}x{size[1]}")
    if not bool(mask.any()):
        raise ConfigError("mask is empty (all black): white marks what is drawn anew")
    if bool(mask.all()):
        raise ConfigError("mask is full (all white): leave black what is to be kept")


def tokens_under(mask: Tensor, layout: Layout) -> Tensor:
    """Return bool [N]: the tokens that a mask [H, W] asks to draw anew.

    On the finest grid a token is drawn anew if any of its pixels is; on coarser scales if more
    than half of them are.
    """
    parts = []
    for segment in layout.segments:
        share = functional.adaptive_avg_pool2d(mask.float()[None, None], segment.size[1:])
        finest = segment.size == layout.extent
        parts.append((share > (0.0 if finest else 0.5)).flatten().repeat(segment.size[0]))
    return torch.cat(parts)
