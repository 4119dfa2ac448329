"""Bitwise head: every bit of a token by itself, from two logits; no softmax over 2^D codes.

Han et al., "Infinity: Scaling Bitwise AutoRegressive Modeling for High-Resolution Image Synthesis",
arXiv:2412.04431; facts from infinity/models/infinity.py of StargazerX0/ScaleKV, a copy of
FoundationVision's.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.head import Drawn, LossBreakdown, Turn
from limner.heads.stages import Stage, min_p, processors, temperature, top_k, top_p_ascending
from limner.heads.token_means import mean_of_tokens

Sampler = Callable[[Tensor, Turn], Tensor]
"""(log-probabilities [R, n, bits, 2], turn) -> int64 [R, n, bits]."""


def by_uniform(logprob: Tensor, turn: Turn) -> Tensor:
    """Draw with one uniform number a bit: 1 where it is below the probability of 1."""
    uniform = turn.noise("uniform", "token", shape=(logprob.shape[-2],))
    return (uniform.to(logprob) < logprob[..., 1].exp()).long()


def by_gumbel(logprob: Tensor, turn: Turn) -> Tensor:
    """Draw the larger log-probability plus Gumbel noise, two numbers a bit (for replays)."""
    noise = turn.noise("gumbel", "token", shape=tuple(logprob.shape[-2:]))
    return (logprob + noise.to(logprob)).argmax(-1)


class BitwiseHead:
    """Cross-entropy of bits in training; stages, then a draw, in sampling.

    Args:
        stages: run on guided logits [R, n bits, 2] after the rows' own processors, which see
            [n, bits, 2].
        sampler: draws from the resulting distributions.
    """

    def __init__(
        self,
        stages: Sequence[Stage] = (temperature, top_k, top_p_ascending, min_p),
        sampler: Sampler = by_uniform,
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
        """Return the mean cross-entropy of a bit in nats.

        Args:
            outputs: float [B, n, bits, 2].
            targets: int64 [B, n, bits].
            weight: [B, n], which tokens count; None: all alike.
        """
        difference = _difference(outputs)
        each = self.token_losses(outputs, targets)
        total = mean_of_tokens(each, weight)
        right = ((difference > 0) == (targets > 0)).to(each).mean()
        return LossBreakdown(total, {"bit_entropy": total.detach(), "bit_accuracy": right.detach()})

    def token_losses(self, outputs: Tensor, targets: Tensor) -> Tensor:
        """Return every token's mean cross-entropy of its bits, float [B, n]; see `loss`."""
        difference = _difference(outputs)
        # of two logits: softplus of how much the wrong one is larger
        return functional.softplus(torch.where(targets > 0, -difference, difference)).mean(-1)

    def filtered(self, turn: Turn) -> Tensor:
        """Return guided logits after all stages, float [R, n, bits, 2]."""
        logits = turn.evaluate().guided()
        logits = logits if logits.dtype == torch.float64 else logits.float()
        logits = processors(logits, turn)
        shape = logits.shape
        logits = logits.flatten(1, 2)
        for stage in self.stages:
            logits = stage(logits, turn)
        return logits.reshape(shape)

    def draw(self, turn: Turn) -> Drawn:
        """Draw all bits of every token."""
        logprob = self.filtered(turn).log_softmax(-1)
        bits = self.sampler(logprob, turn)
        chosen = logprob.gather(-1, bits.unsqueeze(-1)).squeeze(-1)
        return Drawn(bits, logprob=chosen.sum(-1))


def _difference(outputs: Tensor) -> Tensor:
    """Return how much likelier 1 is, in logits, float32 at least."""
    logits = outputs.to(torch.promote_types(outputs.dtype, torch.float32))
    return logits[..., 1] - logits[..., 0]
