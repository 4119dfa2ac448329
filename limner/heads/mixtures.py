"""Mixtures: several codes at once in place of each drawn code, for pictures without hard edges.

VAR's `more_smooth`: `gumbel_softmax_with_rng` in models/helpers.py of FoundationVision/VAR, called
by `autoregressive_infer_cfg` in models/var.py (arXiv:2404.02905). The temperature falls from step
to step, so the last steps nearly pick one code; it is for show, published scores do not use it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.head import Turn
from limner.core.order import Step


@dataclass(frozen=True, eq=False)
class Mixture:
    """A row's wish for mixtures: softmax((logits (1 + r) + Gumbel noise) / t) of the codes.

    r is the share of the steps that are done, step / (steps - 1), and t the temperature
    max(warm (1 - falling r), cold).

    Args:
        codes: float [V, D], what each code says.
        warm: temperature of the first step.
        falling: share of it that is gone at the last step.
        cold: the lowest temperature.
    """

    codes: Tensor
    warm: float = 0.27
    falling: float = 0.95
    cold: float = 0.005

    def __post_init__(self) -> None:
        check(self.cold > 0, "cold", self.cold, "above 0")

    def mix(self, logits: Tensor, noise: Tensor, step: Step) -> Tensor:
        """Return mixtures, float [n, D].

        Args:
            logits: float [n, V], as codes would be drawn from.
            noise: Gumbel, float [n, V].
            step: that draws them.
        """
        assert step.total is not None
        done = step.index / max(1, step.total - 1)
        temperature = max(self.warm * (1 - self.falling * done), self.cold)
        shares = ((logits * (1 + done) + noise) / temperature).softmax(-1)
        return shares.to(self.codes) @ self.codes


def mixtures(logits: Tensor, turn: Turn) -> Tensor | None:
    """Return what the rows draw in place of codes, float [R, n, D]; None: codes.

    Rows that are drawn together ask alike: their tokens hold values, or do not.

    Args:
        logits: float [R, n, V], after all stages.
    """
    asked = [row.options.mixture for row in turn.rows if row.options.mixture is not None]
    if not asked:
        return None
    noise = turn.noise("gumbel", "mixture", shape=(logits.shape[-1],)).to(logits)
    each = zip(asked, logits, noise, turn.steps, strict=True)
    return torch.stack([mixture.mix(part, own, step) for mixture, part, own, step in each])
