"""Progressive training of next-scale models: coarse scales first, finer ones join one by one.

`--pg`, `--pg0` and `--pgwp` of train.py and trainer.py of FoundationVision/VAR, which leave it off
by default. As a step is a function of its number, so are the scales that it learns.
"""

from __future__ import annotations

from torch import Tensor

from limner.core.layout import Layout
from limner.training.recipe import GrowthRecipe

LEAST = 0.01  # weight that a scale joins with


def scales_learned(
    growth: GrowthRecipe, scales: int, used: float, warmup: float
) -> tuple[int, float]:
    """Return how many scales are learned, and how much the finest of them counts.

    Args:
        growth: when they join.
        scales: of all.
        used: share of the budget.
        warmup: share over which the learning rate rises: no scale joins.
    """
    missing = scales - growth.first
    passed = (used - warmup) / max(growth.until - warmup, 1e-9)
    joined = round(min(max(passed, 0.0), 1.0) * missing)
    if missing <= 0 or used >= growth.until:
        return scales, 1.0
    if joined in (0, missing):  # the first scales have learned to walk, the last must not wait
        return growth.first + joined, 1.0
    since = warmup + (growth.until - warmup) * (joined - 0.5) / missing
    risen = 1.0 if growth.rise == 0 else (used - since) / growth.rise
    return growth.first + joined, min(max(risen, LEAST), 1.0)


def token_weights(layout: Layout, scales: int, finest: float) -> Tensor:
    """Return how much each token counts, float [N].

    Args:
        layout: of all scales.
        scales: that are learned; tokens of finer ones count 0.
        finest: weight of the finest of them.
    """
    scale = layout.segment_of()
    weight = (scale < scales).float()
    weight[scale == scales - 1] = finest
    return weight
