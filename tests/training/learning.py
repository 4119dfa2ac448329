"""A plain loop of training on real pictures, and losses of one scale at a time."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.layout import Layout
from limner.core.row import Condition
from limner.core.tokens import Tokens


def picked(tokens: Tokens, index: Tensor) -> Tokens:
    """Return the tokens of the pictures at int64 [B]."""
    ids, values = (None if part is None else part[index] for part in (tokens.ids, tokens.values))
    return Tokens(tokens.layout, ids, values, tokens.known[index])


def learn(
    model: Generator,
    tokens: Tokens,
    condition: Condition,
    steps: int,
    lr: float = 3e-3,
    batch: int = 32,
) -> None:
    """Train a model on pictures, drawn at random by a fixed seed; the rate falls to 0."""
    rng = torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(model.parameters(), lr=lr, betas=(0.9, 0.95), weight_decay=0.05)
    model.train()
    for step in range(steps):
        index = torch.randint(len(tokens), (batch,), generator=rng)
        told = {name: value[index] for name, value in condition.items()}
        optimizer.param_groups[0]["lr"] = lr * min(1.0, (step + 1) / 20) * (1 - step / steps)
        loss = model.loss(picked(tokens, index), told, rng).total
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    model.eval()


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
