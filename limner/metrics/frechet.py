"""Fréchet distance between two sets of feature vectors, as in FID and sFID.

Both sets are summed up as Gaussians: |m1 - m2|^2 + tr S1 + tr S2 - 2 tr (S1 S2)^(1/2). All of it is
computed in float64 whatever the features are. The number of pictures moves the distance: only
numbers from the same counts compare.

Heusel et al., "GANs trained by a two time-scale update rule converge to a local Nash equilibrium",
NeurIPS 2017 (arXiv:1706.08500); sFID: Nash et al., arXiv:2103.03841; conventions of
openai/guided-diffusion `evaluations/evaluator.py`.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import DataError, LimnerError
from limner.metrics.accumulator import Accumulator
from limner.metrics.features import check_features, check_same_width

SPATIAL_CHANNELS = 7
"""Channels of a feature map that sFID counts."""


class TooFewPictures(UserWarning):
    """A distance was computed from fewer pictures than there are features."""


@dataclass(frozen=True, eq=False)
class Gaussian:
    """Mean and covariance of a set of feature vectors.

    Args:
        mean: float64 [D].
        covariance: float64 [D, D], symmetric.
        count: pictures that it was fitted to; None: unknown.

    Raises:
        DataError: the shapes do not fit, or values are not finite.
    """

    mean: Tensor
    covariance: Tensor
    count: int | None = None

    def __post_init__(self) -> None:
        mean, covariance = list(self.mean.shape), list(self.covariance.shape)
        if len(mean) != 1 or covariance != mean * 2:
            raise DataError(
                f"a mean of shape {mean} and a covariance of shape {covariance} are not accepted: "
                "they must be [D] and [D, D]"
            )
        if not bool(self.mean.isfinite().all() & self.covariance.isfinite().all()):
            raise DataError("a mean or covariance with NaN or infinite values is not accepted")


class GaussianSums(Accumulator):
    """Fits a Gaussian batch by batch; batches of any size give the same as all rows at once.

    Args:
        width: D, numbers a vector.
    """

    gathered = ("count", "mean", "scatter")

    def __init__(self, width: int) -> None:
        self.width = width
        self.count = torch.zeros((), dtype=torch.int64)
        self.mean = torch.zeros(width, dtype=torch.float64)
        self.scatter = torch.zeros(width, width, dtype=torch.float64)

    def update(self, features: Tensor) -> None:
        """Count vectors, float [B, D].

        Raises:
            DataError: they are of another width, or not finite.
        """
        check_features(features, width=self.width)
        if len(features) == 0:
            return
        rows = features.detach().cpu().double()
        mean = rows.mean(dim=0)
        centred, shift = rows - mean, mean - self.mean
        share = len(rows) / (int(self.count) + len(rows))
        # sums around each batch's own mean: sums of raw squares would cancel where means are large
        between = int(self.count) * share * torch.outer(shift, shift)
        self.scatter += centred.T @ centred + between
        self.mean += share * shift
        self.count += len(rows)

    def compute(self, correction: int = 1) -> Gaussian:
        """Return the Gaussian of all vectors so far.

        Args:
            correction: subtracted from the count that the covariance is divided by.

        Raises:
            DataError: fewer than `correction` + 1 vectors.
        """
        count = int(self.count)
        if count <= correction:
            raise DataError(f"{count} pictures are too few: at least {correction + 1} are needed")
        return Gaussian(self.mean.clone(), self.scatter / (count - correction), count)


def fit_gaussian(features: Tensor, correction: int = 1) -> Gaussian:
    """Return mean and covariance of float features [N, D]; see `GaussianSums`."""
    check_features(features)
    sums = GaussianSums(features.shape[1])
    sums.update(features)
    return sums.compute(correction)


def frechet_distance(first: Gaussian, second: Gaussian) -> float:
    """Return the Fréchet distance of two Gaussians, 0 or more.

    Fewer pictures than features leave the covariance singular: the distance is then finite and
    exact, but far above that of many pictures, and `TooFewPictures` is warned of.

    Raises:
        DataError: the Gaussians are of different widths.
        LimnerError: a covariance has no eigenvalues, or clearly negative ones.
    """
    check_same_width(first.mean, second.mean)
    _warn_of_few(first, second)
    a, b = _factor(first.covariance), _factor(second.covariance)
    # tr (S1 S2)^(1/2) is the sum of the singular values of A^T B where S1 = A A^T, S2 = B B^T: no
    # root of a product that is not symmetric, nothing imaginary, exact where they are singular
    shared = torch.linalg.svdvals(a.T @ b).sum()
    apart = (first.mean.double() - second.mean.double()).square().sum()
    distance = apart + first.covariance.trace() + second.covariance.trace() - 2 * shared
    return max(0.0, float(distance))


def spatial_features(maps: Tensor, channels: int = SPATIAL_CHANNELS) -> Tensor:
    """Return the vectors of sFID: the first channels of feature maps [B, C, h, w].

    Returns:
        [B, h w channels], in the order row, column, channel.
    """
    return maps[:, :channels].movedim(1, -1).flatten(1)


def _factor(covariance: Tensor) -> Tensor:
    """Return A with A A^T = S, float64 [D, rank]."""
    try:
        values, vectors = torch.linalg.eigh(covariance.double())
    except torch.linalg.LinAlgError as error:
        raise LimnerError(f"a covariance has no eigenvalues: {error}") from None
    largest = float(values.abs().max())
    if float(values.min()) < -1e-3 * largest:
        raise LimnerError(
            f"a covariance with the eigenvalue {float(values.min()):.3g} is not accepted: none may "
            "be negative"
        )
    # what is below rounding error is 0; its root would not be small
    kept = values > largest * len(values) * torch.finfo(torch.float64).eps
    return vectors[:, kept] * values[kept].sqrt()


def _warn_of_few(first: Gaussian, second: Gaussian) -> None:
    width = len(first.mean)
    few = [str(side.count) for side in (first, second) if (side.count or width + 1) <= width]
    if few:
        warnings.warn(
            f"a Fréchet distance over {width} features from {' and '.join(few)} pictures is far "
            f"above that of many pictures: it compares with distances from the same counts only; "
            f"more than {width} pictures a side are advised",
            TooFewPictures,
            stacklevel=3,
        )
