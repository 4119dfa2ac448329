"""Training on tokens of real pictures, and losses of one scale at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.layout import Layout
from limner.core.row import Condition
from limner.core.tokens import Tokens
from tests.learning import lessons


def evenly(rate: float, step: int, steps: int) -> float:
    """Return a rate that warms up and falls to 0 along a line."""
    return rate * min(1.0, (step + 1) / 20) * (1 - step / steps)


def learn(
    model: Generator,
    tokens: Tokens,
    condition: Condition,
    steps: int,
    lr: float = 3e-3,
    batch: int = 32,
) -> None:
    """Train a model on pictures, drawn at random by a fixed seed."""

    def loss(rng: torch.Generator) -> Tensor:
        index = torch.randint(len(tokens), (batch,), generator=rng)
        told = {name: value[index] for name, value in condition.items()}
        return model.loss(tokens.part(index), told, rng).total

    lessons.learn(model, loss, steps, lr, decay=0.05, rate_at=evenly)


@torch.no_grad()
def losses_by_scale(model: Generator, tokens: Tokens, condition: Condition) -> Tensor:
    """Return the mean loss of the tokens of each scale, float [K], of a model that weighs them."""
    segment = tokens.layout.segment_of()
    weights = [(segment == scale).float() for scale in range(len(tokens.layout.segments))]
    return torch.stack([model.loss(tokens, condition, None, weight).total for weight in weights])


def entropies_by_scale(ids: Tensor, layout: Layout, codes: int) -> Tensor:
    """Return the entropy of the ids [B, N] of each scale in nats, float [K].

    It is that of these very ids: a favour to whoever guesses by how often they come.
    """
    found = []
    for scale in range(len(layout.segments)):
        counts = torch.bincount(ids[:, layout.span(scale)].flatten(), minlength=codes).double()
        shares = counts / counts.sum()
        found.append(-torch.special.xlogy(shares, shares).sum())
    return torch.stack(found)
