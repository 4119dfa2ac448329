"""Which tokens are hidden in training: random permutations, masked from their front."""

from __future__ import annotations

import math

import torch
from torch import Tensor


def masked_share(uniform: Tensor, least: float, spread: float = 0.25) -> Tensor:
    """Return shares of tokens to mask, float64: Normal(1, spread) cut to [least, 1].

    Args:
        uniform: numbers in (0, 1), each the probability of a smaller share.
        least: smallest share.

    Source: `mask_ratio_generator` in models/mar.py of LTH14/mar (arXiv:2406.11838).
    """
    below = torch.special.ndtr(torch.tensor((least - 1) / spread, dtype=torch.float64))
    probability = below + uniform.double() * (0.5 - below)
    return (1 + spread * torch.special.ndtri(probability)).clamp(least, 1.0)


def cosine_share(uniform: Tensor, least: float = 0.0) -> Tensor:
    """Return shares of tokens to mask: cos(pi u / 2), at least `least`.

    Args:
        uniform: numbers u in (0, 1).

    Source: train/train_meissonic.py of viiika/Meissonic (arXiv:2410.08261); MaskGIT's schedule.
    """
    return torch.cos(uniform * (math.pi / 2)).clamp(min=least)


def masked_count(total: int, share: float) -> int:
    """Return how many of `total` tokens a share masks: rounded up."""
    return math.ceil(total * share)


def masked_front(permutations: Tensor, counts: Tensor | int) -> Tensor:
    """Return bool [B, N]: the first `counts` entries of every permutation.

    Args:
        permutations: int64 [B, N].
        counts: int64 [B, 1], or one for all rows.
    """
    return permutations.argsort(dim=1) < counts


def random_mask(
    rows: int, tokens: int, least: float, rng: torch.Generator, spread_out: bool = False
) -> Tensor:
    """Return bool [rows, tokens], True where masked; one share for the whole batch.

    Args:
        least: smallest share, see `masked_share`.
        spread_out: each row has its own share instead, evenly over the distribution (evaluation).
    """
    uniform = torch.rand(1, generator=rng, device=rng.device)
    if spread_out:
        uniform = (torch.arange(rows) + 0.5) / rows
    shares = masked_share(uniform, least).tolist()
    counts = torch.tensor([[masked_count(tokens, share)] for share in shares], device=rng.device)
    permutations = torch.rand(rows, tokens, generator=rng, device=rng.device).argsort(dim=1)
    return masked_front(permutations, counts)
