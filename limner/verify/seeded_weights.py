"""Weights that a case describes by a rule instead of a file: splitmix64 of (seed, key, element)."""

from __future__ import annotations

import math
from collections.abc import Mapping

import numpy as np
import torch
from torch import Tensor

_STEP, _FIRST, _SECOND = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB


def seeded_weights(shapes: Mapping[str, tuple[int, ...]], seed: int) -> dict[str, Tensor]:
    """Return the weights that a seed stands for.

    Names are numbered in the order of their bytes; r in [-1, 1) is drawn for every element:

        running variances             1 + r / 2
        scales of norms               1 + r / 5
        heads of LPIPS ("lin...")     (r + 1) / 2
        other vectors                 r / 10
        everything else               r sqrt(6 / inputs)

    Args:
        shapes: official name -> shape of every float tensor of a state dict.
        seed: `weight_seed` of the case.
    """
    ordered = sorted(shapes, key=str.encode)
    return {
        name: torch.from_numpy(_values(name, shapes[name], seed, key).astype(np.float32))
        for key, name in enumerate(ordered)
    }


def _values(name: str, shape: tuple[int, ...], seed: int, key: int) -> np.ndarray:
    drawn = _uniform(seed, key, math.prod(shape)).reshape(shape)
    if name.endswith("running_var"):
        return 1 + 0.5 * drawn
    if name.endswith("bn.weight"):
        return 1 + 0.2 * drawn
    if name.startswith("lin"):
        return (drawn + 1) / 2
    if len(shape) == 1:
        return 0.1 * drawn
    return drawn * math.sqrt(6 / math.prod(shape[1:]))


def _uniform(seed: int, key: int, count: int) -> np.ndarray:
    """Return numbers in [-1, 1), float64 [count]; all whole-number arithmetic is modulo 2^64."""
    start = (seed * 2**48 + key * 2**32 + _STEP) % 2**64
    bits = np.arange(count, dtype=np.uint64) + np.uint64(start)
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(_FIRST)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(_SECOND)
    bits ^= bits >> np.uint64(31)
    return 2 * ((bits >> np.uint64(11)).astype(np.float64) / 2**53) - 1
