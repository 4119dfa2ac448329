"""Random orders: a permutation of the unknown tokens, cut into steps by a schedule."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.noise import Noise
from limner.core.order import Partition


def cosine_counts(total: int, steps: int) -> list[int]:
    """Return how many tokens are still masked after each step, as MAR's schedule has it.

    After step k of K, floor(N cos(pi (k + 1) / 2K)) tokens stay masked, at least one token is
    drawn a step and at least one stays for the next; the last step draws everything left, which
    the list shows as 1 (the value that MAR's linear guidance uses there).

    Args:
        total: N, tokens to draw.
        steps: K.

    Raises:
        ConfigError: more steps than tokens.

    Source: `sample_tokens` in models/mar.py of LTH14/mar (arXiv:2406.11838).
    """
    check(0 < steps <= total, "steps", steps, f"from 1 to the number of tokens, {total}")
    counts, masked = [], total
    for step in range(steps):
        wanted = math.floor(total * math.cos(math.pi / 2 * (step + 1) / steps))
        masked = max(1, min(masked - 1, wanted))
        counts.append(masked)
    return counts


def random_partition(permutation: Tensor, steps: int, count: int | None = None) -> Partition:
    """Return the order that draws a permutation from its end, cut by the cosine schedule.

    Args:
        permutation: int64 [n], the tokens to draw; the last ones come first; empty for an order
            without steps.
        steps: number of steps.
        count: N, length of the layout; tokens outside the permutation are given. None: n.
    """
    total = len(permutation)
    counts = cosine_counts(total, steps) if total else []
    bounds = [total, *counts[:-1], 0]
    step = torch.full((count or total,), -1)
    for index, (high, low) in enumerate(itertools.pairwise(bounds)):
        step[permutation[low:high]] = index
    return Partition(step)


def shuffled(tokens: Tensor, noise: Noise) -> Tensor:
    """Return int64 tokens [n] in an order that follows from a row's noise alone."""
    return tokens[torch.argsort(noise.uniform("order", tokens, 0))]
