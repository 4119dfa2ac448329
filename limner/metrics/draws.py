"""The random numbers that published protocols draw: numpy's legacy generator, from a seed.

Its numbers never change between versions of numpy, so that the same pictures get the same score.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import check

SEED = 2020
"""As torch-fidelity has it."""


def permutation(count: int, seed: int = SEED) -> Tensor:
    """Return the numbers 0 to count - 1 in random order, int64 [count]."""
    return torch.from_numpy(np.random.RandomState(seed).permutation(count)).long()


def subset_pairs(
    first: int, second: int, subsets: int, size: int, seed: int = SEED
) -> tuple[Tensor, Tensor]:
    """Return random subsets of two sets, drawn in turns: one of the first, one of the second.

    Args:
        first: members of the first set.
        second: members of the second set.
        subsets: S, of each.
        size: m, members of a subset, all different.

    Returns:
        int64 [S, m] each.

    Raises:
        ConfigError: a set has fewer members than a subset.
    """
    check(subsets > 0, "subsets", subsets, "at least 1")
    least = min(first, second)
    check(0 < size <= least, "size", size, f"from 1 to {least}, as many as the smaller set has")
    random = np.random.RandomState(seed)
    drawn = [
        [random.choice(count, size, replace=False) for count in (first, second)]
        for _ in range(subsets)
    ]
    pairs = torch.from_numpy(np.array(drawn)).long()
    return pairs[:, 0], pairs[:, 1]
