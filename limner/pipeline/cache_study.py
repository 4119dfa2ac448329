"""What bounding the memory of a pipeline changes, and which of its layers are drafters.

See `limner.pipeline.cache`; arXiv:2505.19602.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from limner.layers.scale_memory import CacheBudget, ScaleMemory
from limner.metrics.pixels import psnr
from limner.pipeline.cache import (
    CacheUse,
    drafter_budget,
    drafter_pairs,
    layers_of,
    selectivity,
    standardised,
)
from limner.pipeline.pipeline import Pipeline, Result

UNBOUNDED = 2**60
MOST_QUERIES = 256
"""Queries of a map that the index looks at, evenly spread: weights of all would take too much."""
LARGEST = 16
"""K', earlier places that count for the index (a choice)."""


@dataclass(frozen=True)
class CacheStudy:
    """Pictures drawn twice from the same seeds: with everything remembered, and within a budget.

    Args:
        whole: the pictures drawn with everything.
        within: those drawn within the budget.
        use: of the memory, within the budget.
        psnr: of every picture within the budget against the other, float [B], in dB.
        changed: share of the tokens that differ, float [B].
    """

    whole: Result
    within: Result
    use: CacheUse
    psnr: Tensor
    changed: Tensor


def study_cache(pipeline: Pipeline, budget: float | str | CacheBudget, **asked: Any) -> CacheStudy:
    """Draw pictures with and without a budget.

    Args:
        pipeline: that draws.
        budget: see `Settings.cache`.
        **asked: as for a call of the pipeline.

    Raises:
        ConfigError: the pipeline keeps nothing that could be forgotten, or the budget is below the
            minimum.
    """
    within = pipeline(**asked, cache=budget)
    whole = pipeline(**asked)
    assert within.cache is not None
    differ = torch.zeros(len(whole.pictures))
    for kind in ("ids", "values"):
        one, other = getattr(whole.tokens, kind), getattr(within.tokens, kind)
        if one is not None:
            differ = (one != other).any(-1).float().mean(-1).cpu()
    return CacheStudy(whole, within, within.cache, psnr(within.pictures, whole.pictures), differ)


def find_drafters(pipeline: Pipeline, count: int, **asked: Any) -> Tensor:
    """Return which layers are drafters at which scales, bool [layers, scales].

    Args:
        pipeline: that draws.
        count: of drafters: pairs of a layer and a scale.
        **asked: pictures that attention is measured on, as for a call of the pipeline.

    Raises:
        ConfigError: the pipeline keeps nothing that could be forgotten, or has no so many pairs.
    """
    return drafter_pairs(standardised(measure_selectivity(pipeline, **asked)), count)


def plan_budget(
    pipeline: Pipeline, share: float, drafters: int, decay: float = 0.0, **asked: Any
) -> CacheBudget:
    """Return a budget for a pipeline, its drafters found by drawing pictures.

    Args:
        pipeline: that draws.
        share: see `even_budget`.
        drafters: pairs of a layer and a scale.
        decay: see `drafter_budget`.
        **asked: as for `find_drafters`.
    """
    found = find_drafters(pipeline, drafters, **asked)
    height, width = asked.get("size") or pipeline.size
    return drafter_budget(pipeline.tokenizer.layout(height, width), found, share, decay)


def measure_selectivity(pipeline: Pipeline, **asked: Any) -> Tensor:
    """Return the attention selectivity index of pictures that are drawn, float [layers, scales]."""
    memory = SelectivityMemory(layers_of(pipeline.generator.memory(())))
    pipeline(**asked, cache=memory)
    return memory.index()


class SelectivityMemory(ScaleMemory):
    """A memory that forgets nothing, and measures how selective attention is.

    Args:
        layers: number of attention layers.
    """

    def __init__(self, layers: int) -> None:
        super().__init__(layers, CacheBudget(((),), UNBOUNDED))
        self._found: dict[tuple[int, int], Tensor] = {}  # by scale and layer

    def looked(self, layer: int, query: Tensor, keys: Tensor, scale: float | None) -> None:
        """Take in what a layer attends to, as the mean over rows."""
        total, count = keys.shape[2], query.shape[2]
        history = total - count
        chosen = torch.linspace(0, count - 1, min(count, MOST_QUERIES), device=query.device).long()
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        weights = (factor * query[:, :, chosen] @ keys.transpose(2, 3)).softmax(-1)
        self._found[history, layer] = selectivity(weights, history, LARGEST).mean().cpu()

    def index(self) -> Tensor:
        """Return the index, float [layers, scales]."""
        scales = sorted({scale for scale, _ in self._found})
        rows = [[self._found[scale, layer] for scale in scales] for layer in range(self.layers)]
        return torch.stack([torch.stack(row) for row in rows])
