"""Which drafted vectors a target keeps, and what takes the place of the others.

Wang et al., "Continuous Speculative Decoding for Autoregressive Image Generation",
arXiv:2411.11925; facts from spec_decode/spec_decode_runner.py of MarkXCloud/CSpD.

Draft q and target p walk the same noises, so all that sets their ways apart is known, and the last
denoising step of each is a Gaussian. A draft x is kept with probability min(1, p(x) / q(x)); else
the token is drawn from the positive part of p - q: proposals of p are taken with probability
max(0, 1 - q / p).
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from limner.heads.diffusion import LastStep

Numbers = Callable[[int], Tensor]
"""Number of the round -> random numbers, [..., D] or [...]."""

Proposals = Callable[[int, Tensor], tuple[Tensor, Tensor]]
"""Number of the round, tokens int64 [k] -> what p draws, [k, D], and its log p - log q, [k]."""


def log_ratio(x: Tensor, draft: LastStep, target: LastStep, inner: float = 1.0) -> Tensor:
    """Return log p(x) - log q(x), float [...].

    Args:
        x: float [..., D].
        inner: factor on the deviations within the exponents.
    """
    apart = _distance(x, draft) - _distance(x, target)
    return 0.5 * apart / inner**2 + (draft.deviation.log() - target.deviation.log()).sum(-1)


def log_correction(draft: LastStep, target: LastStep) -> Tensor:
    """Return by how much the steps before the last weigh, float [...].

    The exponents of these steps cancel, as their noises are the same; what is left is the ratio of
    their deviations, target by draft, as in the released code (densities give the inverse).
    """
    return (target.log_deviations - draft.log_deviations).sum(-1)


def kept_share(y: Tensor, draft: LastStep, target: LastStep, correction: Tensor) -> Tensor:
    """Return the probability, float [...], that a proposal y of the target replaces a draft.

    Args:
        y: float [..., D].
        correction: float [...], see `log_correction`.
    """
    return (1 - (-log_ratio(y, draft, target) - correction).exp()).clamp(min=0)


def keeps(log_ratio: Tensor, uniform: Tensor) -> Tensor:
    """Return which drafts are kept, bool [...].

    Args:
        log_ratio: float [...], log p - log q of the drafts.
        uniform: float [...], uniform numbers.
    """
    return log_ratio.exp() > uniform.to(log_ratio)


def resample(
    draft: LastStep,
    target: LastStep,
    correction: Tensor,
    normal: Numbers,
    uniform: Numbers,
    rounds: int,
    wanted: Tensor | None = None,
) -> tuple[Tensor, Tensor, int]:
    """Draw from the positive part of p - q by proposals of p, as the released code does.

    All tokens make proposals until each that is needed has had one taken, and keep their last one.

    Args:
        correction: float [...], see `log_correction`.
        normal: standard normal numbers of a round, [..., D].
        uniform: uniform numbers of a round, [...].
        rounds: most of them.
        wanted: bool [...], tokens that are needed; None: all.

    Returns:
        float [..., D], what was taken (zeros where nothing was); int64 [...], the round in which a
        token's first proposal was taken, -1 for none; and how many rounds there were.
    """
    taken = torch.zeros_like(target.mean)
    hit = torch.full(taken.shape[:-1], -1, device=taken.device)
    missing = torch.ones_like(hit, dtype=torch.bool) if wanted is None else wanted
    made = 0
    while made < rounds and bool((missing & (hit < 0)).any()):
        y = target.mean + target.deviation * normal(made).to(taken)
        take = uniform(made).to(taken) < kept_share(y, draft, target, correction)
        taken = torch.where(take.unsqueeze(-1), y, taken)
        hit = hit.masked_fill(take & (hit < 0), made)
        made += 1
    return taken, hit, made


def residual(propose: Proposals, uniform: Numbers, count: int, rounds: int) -> Tensor:
    """Draw from the positive part of p - q by proposals of p; tokens do not depend on each other.

    Args:
        propose: draws from p.
        uniform: uniform numbers of a round, [count].
        count: tokens.
        rounds: most of them; a token that none is taken of becomes its last proposal.

    Returns:
        float [count, D].
    """
    missing = torch.arange(count)
    taken, apart = propose(0, missing)
    made = 1
    while True:
        take = uniform(made - 1).to(apart)[missing] < 1 - (-apart).exp()
        missing = missing[~take.cpu()]
        if len(missing) == 0 or made == rounds:
            return taken
        taken[missing], apart = propose(made, missing)
        made += 1


def _distance(x: Tensor, last: LastStep) -> Tensor:
    """Return the squared distance from the mean in deviations, float [...]."""
    return ((x - last.mean) / last.deviation).square().sum(-1)
