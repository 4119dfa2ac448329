"""Which keys and values of a next-scale model's memory are worth keeping.

A few queries of the map that was drawn last, spread evenly over it, say what they look at; their
own entries stay too. As in `ScaleKVCluster` of scale_kv.py in StargazerX0/ScaleKV
(arXiv:2505.19602), which scores without a softmax and takes the largest of neighbouring scores,
unlike the paper.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Pooling = Literal["max", "average"]


def window_of(length: int, count: int, window: int) -> Tensor:
    """Return which entries are observed, int64 [window], ascending.

    They are the middles of a square of cells that covers the map; of a map that is no square or
    too small, and where the window is no square, the last entries.

    Args:
        length: entries of the memory, the map's last.
        count: of the map.
        window: entries to observe.
    """
    side, cells = math.isqrt(count), math.isqrt(window)
    if side**2 != count or cells**2 != window or side < cells:
        return torch.arange(max(0, length - window), length)
    cell = side // cells
    along = torch.arange(cells) * cell + (cell - 1) // 2
    return (length - count + along[:, None] * side + along).flatten()


def select(
    queries: Tensor, keys: Tensor, window: Tensor, capacity: int, kernel: int, pooling: Pooling
) -> Tensor:
    """Return the entries to keep, int64 [R, heads, capacity], ascending.

    Args:
        queries: float [R, heads, w, d], of observed places.
        keys: float [R, heads, n, d], as remembered.
        window: int64 [at most capacity], entries that stay; on the CPU.
        capacity: how many are kept.
        kernel: neighbouring entries whose scores are pooled; odd.
        pooling: of the scores.
    """
    window = window.to(keys.device)
    scores = queries @ keys.transpose(2, 3) / math.sqrt(keys.shape[-1])
    scores[..., window] = -torch.inf
    score = scores.sum(2)
    pool = functional.max_pool1d if pooling == "max" else functional.avg_pool1d
    score = pool(score, kernel, 1, kernel // 2)
    score[..., window] = -torch.inf
    best = score.topk(capacity - len(window), dim=-1).indices
    return torch.cat([best, window.expand(*best.shape[:2], -1)], dim=-1).sort(dim=-1).values
