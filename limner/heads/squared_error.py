"""The squared error of what a network tells of every token."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.head import LossBreakdown


def squared_error(outputs: Tensor, targets: Tensor, weight: Tensor | None = None) -> LossBreakdown:
    """Return the mean squared error over tokens, as {"mse": ...}.

    Args:
        outputs: float [B, n, D].
        targets: float [B, n, D].
        weight: [B, n], how much each token counts; None: all alike.
    """
    return mean_of_tokens((outputs - targets.to(outputs)).square().mean(-1), weight)


def mean_of_tokens(error: Tensor, weight: Tensor | None = None) -> LossBreakdown:
    """Return the mean over tokens of their errors, float [B, n], as {"mse": ...}."""
    share = torch.ones_like(error) if weight is None else weight.to(error)
    total = (error * share).sum() / share.sum().clamp(min=1e-12)
    return LossBreakdown(total, {"mse": total.detach()})
