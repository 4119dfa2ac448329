"""Bootstrap: how far a number would move if other pictures had been drawn.

A set of N pictures is resampled: N of them are taken at random, with repetitions, many times over,
and the number is computed of every resample. Repetitions also shift some numbers (a Fréchet
distance becomes larger as fewer different pictures take part), which says nothing of how far they
scatter: so the resampled values are moved to have their mean at the number itself before an
interval is taken.

Efron, "Bootstrap methods: another look at the jackknife", Annals of Statistics 1979.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.seeds import seeded
from limner.metrics.features import check_features, check_same_width
from limner.metrics.frechet import Gaussian
from limner.metrics.kid import KERNEL, PolynomialKernel

CHUNK = 2048  # rows of each set whose kernels are held at once


@dataclass(frozen=True)
class Bootstrap:
    """How intervals are found.

    Args:
        resamples: R of them.
        seed: of the choice of pictures; sets of one size are resampled alike.
        level: share of the resampled values that an interval holds.
    """

    resamples: int = 100
    seed: int = 0
    level: float = 0.95

    def __post_init__(self) -> None:
        check(self.resamples >= 20, "resamples", self.resamples, "at least 20")
        check(0 < self.level < 1, "level", self.level, "between 0 and 1")

    def draws(self, count: int) -> Tensor:
        """Return which pictures are in each resample of a set of N, int64 [R, N]."""
        rng = seeded(self.seed, "bootstrap", count)
        return torch.randint(count, (self.resamples, count), generator=rng)

    def shares(self, share: float, count: int) -> Tensor:
        """Return a share of N pictures in each resample, float64 [R].

        Which pictures make up the share does not matter to how it scatters. One picture more of
        either kind takes part: not even a share of 0 or 1 is certain.

        Args:
            share: of the pictures, 0 to 1.
            count: N.
        """
        kind = torch.arange(count + 2) < round(share * count) + 1
        return torch.stack([kind[index].double().mean() for index in self.draws(count + 2)])

    def interval(
        self, value: float, resampled: Tensor, least: float = 0.0, most: float = math.inf
    ) -> tuple[float, float]:
        """Return the bounds of an interval around a number.

        Args:
            value: of all pictures.
            resampled: of every resample, float64 [R].
            least: that the number can be.
            most: that the number can be.
        """
        outside = (1 - self.level) / 2
        moved = value + resampled.double().cpu() - resampled.double().mean().cpu()
        bounds = moved.quantile(torch.tensor([outside, 1 - outside], dtype=torch.float64))
        low, high = bounds.clamp(least, most).tolist()
        return low, high


def resampled_frechet(real: Gaussian, made: Tensor, draws: Tensor) -> Tensor:
    """Return the Fréchet distance from a Gaussian to each resample of a set, float64 [R].

    As `limner.metrics.frechet.frechet_distance`, but what belongs to the Gaussian is computed once,
    and square roots are taken of eigenvalues: exact to about seven digits.

    Args:
        real: of D features.
        made: float features [N, D], on the device where it is computed.
        draws: int64 [R, n], two or more rows each; [1, N] of all rows gives the distance itself.

    Raises:
        DataError: the features have another width, or are not finite.
    """
    check_same_width(real.mean, made)
    check_features(made, least=2)
    rows = made.double() - real.mean.to(made.device)
    squares = rows.square().sum(dim=1)
    axes, lengths, _ = torch.linalg.svd(real.covariance.to(made.device, torch.float64))
    inner = rows @ (axes * lengths.sqrt())  # S1 = A A^T: (A^T S2 A) has the eigenvalues of S1 S2
    distances = []
    for index in draws:
        counts = torch.bincount(index, minlength=len(rows)).to(rows)
        total = len(index)
        apart = (counts @ rows / total).square().sum()
        spread = (counts @ squares - total * apart) / (total - 1)
        centred = (inner - counts @ inner / total) * (counts / (total - 1)).sqrt().unsqueeze(1)
        few = len(rows) < inner.shape[1]
        shared = torch.linalg.eigvalsh(centred @ centred.T if few else centred.T @ centred)
        distances.append(apart + spread - 2 * shared.clamp(min=0).sqrt().sum())
    return (torch.stack(distances).cpu() + real.covariance.trace().cpu()).clamp(min=0)


def resampled_kernel(
    real: Tensor,
    made: Tensor,
    draws: Tensor,
    kernel: PolynomialKernel = KERNEL,
    chunk: int = CHUNK,
) -> tuple[float, Tensor]:
    """Return the kernel distance of two sets, and that of each resample of the second, [R].

    All pairs of pictures are counted once, where `limner.metrics.kid.kernel_distance` counts those
    of random subsets: both are the same on average.

    Args:
        real: float features [N, D], two or more.
        made: float features [M, D], two or more.
        draws: int64 [R, M], rows of the second; R may be 0.
        kernel: of two vectors.
        chunk: rows compared at once.

    Raises:
        DataError: the sets differ in width, are too small, or not finite.
    """
    check_same_width(real, made)
    for features in (real, made):
        check_features(features, least=2)
    each = [torch.arange(len(made)), *draws]
    taken = torch.stack([torch.bincount(index, minlength=len(made)) for index in each])
    counts = taken.to(made.device, torch.float64)
    within = _pairs(made, counts, kernel, chunk)
    around = _pairs(real, counts.new_ones(1, len(real)), kernel, chunk)
    nearness = torch.cat(
        [
            sum(
                (kernel(a.double(), b.double()).sum(dim=1) for b in real.split(chunk)),
                start=counts.new_zeros(len(a)),
            )
            for a in made.split(chunk)
        ]
    )
    across = counts @ nearness / (len(made) * len(real))
    distances = (within + around - 2 * across).cpu()
    return float(distances[0]), distances[1:]


def _pairs(features: Tensor, counts: Tensor, kernel: PolynomialKernel, chunk: int) -> Tensor:
    """Return the mean kernel of all pairs of different rows, each as often as counts [R, N] say."""
    size = len(features)
    total = counts.new_zeros(len(counts))
    for rows in torch.arange(size).split(chunk):
        a = features[rows].double()
        for columns in torch.arange(size).split(chunk):
            values = kernel(a, features[columns].double())
            total += ((counts[:, rows] @ values) * counts[:, columns]).sum(dim=1)
            if int(rows[0]) == int(columns[0]):
                total -= counts[:, rows] @ values.diagonal()
    return total / (size * (size - 1))
