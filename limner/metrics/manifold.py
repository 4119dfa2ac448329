"""Precision and recall, density and coverage: do two sets of feature vectors lie in one place?

Every vector has a ball that reaches to its k-th nearest other vector of its own set. Precision is
the share of made vectors within some real ball, recall the share of real ones within some made
ball; density counts the real balls that hold a made vector, coverage the real balls that hold one.

Kynkäänniemi et al., "Improved precision and recall metric for assessing generative models",
NeurIPS 2019 (arXiv:1904.06991), with k = 3; Naeem et al., "Reliable fidelity and diversity metrics
for generative models", ICML 2020 (arXiv:2002.09797), with k = 5. What lies on a ball is within it,
as in openai/guided-diffusion and torch-fidelity; distances are float64.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check
from limner.metrics.features import check_features, check_same_width

CHUNK = 2048
"""Rows of each set whose distances are held at once: chunk x chunk numbers, 32 MB."""

_SAME = 1e-12
"""Squared distances below this share of the squared lengths are rounding errors of 0."""


@dataclass(frozen=True)
class ManifoldScores:
    """How two sets overlap.

    Args:
        precision: share of made vectors within a real ball.
        recall: share of real vectors within a made ball.
        density: real balls that hold a made vector, on average over these, divided by k; near 1 for
            sets of one distribution, and may be larger.
        coverage: share of real balls that hold a made vector.
    """

    precision: float
    recall: float
    density: float
    coverage: float


def manifold_scores(
    real: Tensor, made: Tensor, neighbours: int = 3, chunk: int = CHUNK
) -> ManifoldScores:
    """Measure how two sets overlap.

    ADM's protocol takes 10,000 reference pictures and 50,000 samples.

    Args:
        real: float features [N, D].
        made: float features [M, D].
        neighbours: k, which of the nearest others a ball reaches to.
        chunk: rows compared at once; memory grows with its square, not with N and M.

    Raises:
        DataError: the sets differ in width, are not finite, or hold no more than k vectors.
    """
    check_same_width(real, made)
    real_reach, made_reach = (_reach(side, neighbours, chunk) for side in (real, made))
    nearest = torch.full((len(real),), torch.inf, dtype=torch.float64)
    recalled = torch.zeros(len(real), dtype=torch.bool)
    holding = torch.zeros(len(made), dtype=torch.int64)
    for rows, columns, squares in _tiles(real, made, chunk):
        nearest[rows] = torch.minimum(nearest[rows], squares.amin(dim=1).cpu())
        recalled[rows] |= (squares <= made_reach[columns].to(squares)).any(dim=1).cpu()
        inside = squares <= real_reach[rows].to(squares).unsqueeze(1)
        holding[columns] += inside.sum(dim=0).cpu()
    return ManifoldScores(
        precision=float((holding > 0).double().mean()),
        recall=float(recalled.double().mean()),
        density=float(holding.double().mean()) / neighbours,
        coverage=float((nearest <= real_reach).double().mean()),
    )


def radii(features: Tensor, neighbours: int = 3, chunk: int = CHUNK) -> Tensor:
    """Return every vector's distance to its k-th nearest other one, float64 [N].

    Args:
        features: float [N, D].
        neighbours: k.
        chunk: rows compared at once.

    Raises:
        DataError: features are not finite, or no more than k.
    """
    return _reach(features, neighbours, chunk).sqrt()


def _reach(features: Tensor, neighbours: int, chunk: int) -> Tensor:
    """Return squared radii, float64 [N]."""
    check(neighbours > 0, "neighbours", neighbours, "at least 1")
    check(chunk > 0, "chunk", chunk, "at least 1")
    check_features(features, least=neighbours + 1)
    # a vector is its own nearest, at distance 0
    near = torch.full((len(features), neighbours + 1), torch.inf, dtype=torch.float64)
    for rows, _, squares in _tiles(features, features, chunk):
        found = torch.cat([near[rows], squares.cpu()], dim=1)
        near[rows] = found.topk(neighbours + 1, dim=1, largest=False).values
    return near.amax(dim=1)


def _tiles(first: Tensor, second: Tensor, chunk: int) -> Iterator[tuple[slice, slice, Tensor]]:
    """Yield squared distances of some rows of two sets: (rows, rows, float64 [n, m])."""
    for row in range(0, len(first), chunk):
        a = first[row : row + chunk].double()
        for column in range(0, len(second), chunk):
            b = second[column : column + chunk].double()
            lengths = a.square().sum(dim=1).unsqueeze(1) + b.square().sum(dim=1)
            squares = lengths - 2 * a @ b.T
            squares = torch.where(squares <= _SAME * lengths, 0.0, squares)
            yield slice(row, row + chunk), slice(column, column + chunk), squares
