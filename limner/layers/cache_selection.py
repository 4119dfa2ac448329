"""Which keys and values of a next-scale model's memory are worth keeping.

A few queries of the map that was drawn last, spread evenly over it, say what they look at; their
own entries stay too. `ScaleKVCluster` of scale_kv.py in StargazerX0/ScaleKV (arXiv:2505.19602)
scores by products without a softmax and takes the largest of neighbouring scores; the paper, by the
attention that entries get.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional

Pooling = Literal["max", "average"]
Scores = Literal["attention", "products"]


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


def attention_scores(queries: Tensor, keys: Tensor, scale: float | None) -> Tensor:
    """Return what every entry gets of the attention of observed places, float [R, heads, n].

    Args:
        queries: float [R, heads, w, d], as the layer attends with them.
        keys: float [R, heads, n, d], as remembered.
        scale: of the layer's scores; None: 1 / sqrt(d).
    """
    return _products(queries, keys, scale).softmax(-1).sum(2)


def product_scores(queries: Tensor, keys: Tensor) -> Tensor:
    """Return every entry's products with observed queries, added up, float [R, heads, n].

    Args:
        queries: float [R, heads, w, d].
        keys: float [R, heads, n, d], as remembered.
    """
    return _products(queries, keys, None).sum(2)


def _products(queries: Tensor, keys: Tensor, scale: float | None) -> Tensor:
    return queries @ keys.transpose(2, 3) * (keys.shape[-1] ** -0.5 if scale is None else scale)


def select(
    score: Tensor, window: Tensor, capacity: int, kernel: int = 1, pooling: Pooling = "max"
) -> Tensor:
    """Return the entries to keep, int64 [R, heads, capacity], ascending.

    Args:
        score: float [R, heads, n], of every entry.
        window: int64 [at most capacity], entries that stay; on the CPU.
        capacity: how many are kept.
        kernel: neighbouring entries whose scores are pooled; odd.
        pooling: of the scores.
    """
    window = window.to(score.device)
    apart = score.index_fill(-1, window, -torch.inf)
    pool = functional.max_pool1d if pooling == "max" else functional.avg_pool1d
    pooled = pool(apart, kernel, 1, kernel // 2).index_fill(-1, window, -torch.inf)
    best = pooled.topk(capacity - len(window), dim=-1).indices
    return torch.cat([best, window.expand(*best.shape[:2], -1)], dim=-1).sort(dim=-1).values
