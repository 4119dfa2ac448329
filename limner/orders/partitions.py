"""Orders that follow from the layout alone; each is built once and shared by all rows."""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.order import Partition


def drawable(layout: Layout) -> Tensor:
    """Return bool [N]: the tokens that are not placeholders."""
    real = torch.tensor([segment.role != "placeholder" for segment in layout.segments])
    return real[layout.segment_of()]


@lru_cache(maxsize=64)
def raster(layout: Layout) -> Partition:
    """One token a step, in the order in which the layout stores them."""
    real = drawable(layout)
    return Partition(torch.where(real, real.cumsum(0) - 1, -1))


@lru_cache(maxsize=64)
def scales(layout: Layout) -> Partition:
    """One segment a step: next-scale prediction (Tian et al., VAR, arXiv:2404.02905)."""
    return Partition(torch.where(drawable(layout), layout.segment_of(), -1))
