"""Categorical head: one code a token from V logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.head import Drawn, LossBreakdown, Turn
from limner.heads.cross_entropy import projected_cross_entropy, projected_errors
from limner.heads.mixtures import mixtures
from limner.heads.stages import DEFAULT_STAGES, Stage
from limner.heads.token_means import mean_of_tokens

Sampler = Callable[[Tensor, Turn], Tensor]
"""(log-probabilities [R, n, V], turn) -> int64 [R, n]."""


def inverse_cdf(logprob: Tensor, turn: Turn) -> Tensor:
    """Draw with one uniform number a token: the first code whose cumulative probability passes it.

    The number depends on the row's seed, the token and the step alone.
    """
    uniform = turn.noise("uniform", "token").to(logprob)
    cumulative = logprob.exp().cumsum(-1)
    # scaled by the sum as it was rounded, and below it: a code passes it
    total = cumulative[..., -1:]
    target = (uniform.to(total.device).unsqueeze(-1) * total).minimum(total.nextafter(-total))
    return torch.searchsorted(cumulative, target, right=True).squeeze(-1)


def gumbel_max(logprob: Tensor, turn: Turn) -> Tensor:
    """Draw the largest log-probability plus Gumbel noise, V numbers a token (for replays)."""
    noise = turn.noise("gumbel", "token", shape=(logprob.shape[-1],))
    return (logprob + noise.to(logprob)).argmax(-1)


class CategoricalHead:
    """Cross-entropy in training; stages, then a draw, in sampling.

    Args:
        stages: run on the guided logits, in this order.
        sampler: draws from the resulting distribution.
    """

    def __init__(
        self, stages: Sequence[Stage] = DEFAULT_STAGES, sampler: Sampler = inverse_cdf
    ) -> None:
        self.stages = tuple(stages)
        self.sampler = sampler

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the mean cross-entropy in nats; without gradients also the share of tokens whose
        likeliest code is another.

        Args:
            outputs: float [B, n, V].
            targets: int64 [B, n, 1].
            weight: [B, n], which tokens count; None: all alike.
        """
        each = functional.cross_entropy(
            outputs.flatten(0, 1).float(), targets.flatten(), reduction="none"
        )
        counted = None if weight is None else weight.flatten()
        total = mean_of_tokens(each, counted)
        parts = {"cross_entropy": total.detach()}
        if not torch.is_grad_enabled():  # only where it is measured: it takes a pass of its own
            wrong = outputs.flatten(0, 1).argmax(-1) != targets.flatten()
            parts["token_error"] = mean_of_tokens(wrong.to(each), counted)
        return LossBreakdown(total, parts)

    def projected_loss(
        self,
        hidden: Tensor,
        projection: Tensor,
        targets: Tensor,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """Return the loss of outputs hidden projection^T, which are never held all at once.

        Args:
            hidden: float [B, n, D].
            projection: float [V, D].
            targets: int64 [B, n, 1].
            weight: [B, n], which tokens count; None: all alike.
        """
        given = hidden.flatten(0, 1), projection, targets.flatten()
        counted = None if weight is None else weight.flatten()
        total = projected_cross_entropy(*given, counted)
        parts = {"cross_entropy": total.detach()}
        if not torch.is_grad_enabled():
            parts["token_error"] = mean_of_tokens(projected_errors(*given).to(total), counted)
        return LossBreakdown(total, parts)

    def filtered(self, turn: Turn) -> Tensor:
        """Return guided logits after all stages, float [R, n, V]."""
        logits = turn.evaluate().guided()
        logits = logits if logits.dtype == torch.float64 else logits.float()
        for stage in self.stages:
            logits = stage(logits, turn)
        return logits

    def draw(self, turn: Turn) -> Drawn:
        """Draw one code a token; beside it a mixture of codes, where rows ask for mixtures."""
        logits = self.filtered(turn)
        logprob = logits.log_softmax(-1)
        ids = self.sampler(logprob, turn)
        chosen = logprob.gather(-1, ids.unsqueeze(-1)).squeeze(-1)
        return Drawn(ids.unsqueeze(-1), mixtures(logits, turn), chosen)
