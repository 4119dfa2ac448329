"""Means over tokens, of which some may count for more than others."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.head import LossBreakdown


def mean_of_tokens(each: Tensor, weight: Tensor | None = None) -> Tensor:
    """Return the mean of one number a token, float [].

    Args:
        each: float [...].
        weight: of the same shape, how much each token counts; None: all alike.
    """
    if weight is None:
        return each.mean()
    weight = weight.to(each)
    return (each * weight).sum() / weight.sum().clamp(min=1e-12)


class SquaredErrorHead:
    """Base of heads that learn what they are told by its squared error; see their `draw`."""

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the mean squared error of what the network tells.

        Args:
            outputs: float [B, n, D].
            targets: float [B, n, D], what it should tell: noise, velocities or clean contents.
            rng: of no use here.
            weight: [B, n], which tokens count; None: all alike.
        """
        total = mean_of_tokens((outputs - targets.to(outputs)).square().mean(-1), weight)
        return LossBreakdown(total, {"mse": total.detach()})
