"""Clean and noisy copies of blocks: what block diffusion reads, in `skip_causal` attention.

Hu et al., "ACDiT: Interpolating Autoregressive Conditional Modeling and Diffusion Transformer",
arXiv:2412.07720.
"""

from __future__ import annotations

from functools import lru_cache

import torch
from torch import Tensor

from limner.core.order import Partition
from limner.core.slots import Slots, concatenate


@lru_cache(maxsize=256)
def block_slots(order: Partition, clean: tuple[int, int], noisy: tuple[int, int]) -> Slots:
    """Return the slots of some blocks when they are clean, then of some as drafts, which speak.

    Args:
        order: block after block.
        clean: first block and one past the last.
        noisy: the same, of the drafts.
    """
    parts = [_slots(order.steps[index].draw, index + 1, 0) for index in range(*clean)]
    parts += [_slots(order.steps[index].draw, index, 1) for index in range(*noisy)]
    return concatenate(parts)


def _slots(place: Tensor, since: int, copy: int) -> Slots:
    """A clean block is known after its step; its draft is there in the step itself."""
    speaks = torch.stack([torch.arange(len(place)), torch.zeros_like(place), place], dim=1)
    return Slots.of(
        place, torch.full_like(place, since), speaks[: len(place) * copy], copy, commit=copy == 0
    )
