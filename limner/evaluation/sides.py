"""What drawn pictures are compared with: other pictures, or the statistics of a file."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from torch import Tensor

from limner.core.errors import DataError
from limner.evaluation.features import Described
from limner.evaluation.result import SetFacts
from limner.metrics.frechet import Gaussian, fit_gaussian
from limner.metrics.references import Reference


@dataclass(frozen=True, eq=False)
class RealSide:
    """The evaluation set, as numbers need it.

    Args:
        facts: which pictures.
        gaussian: of their features.
        spatial: of their spatial features, or None.
        pooled: their features, float32 [N, D]; None: only statistics are known.
    """

    facts: SetFacts
    gaussian: Gaussian
    spatial: Gaussian | None = None
    pooled: Tensor | None = None


def facts_of(described: Described) -> SetFacts:
    """Return which pictures were described."""
    return SetFacts(described.name, len(described), described.size, described.fingerprint)


def side_of(described: Described) -> RealSide:
    """Return a set of pictures as others are compared with it.

    Raises:
        DataError: it is of a single picture.
    """
    vectors = described.vectors
    spatial = None if vectors.spatial is None else fit_gaussian(vectors.spatial)
    return RealSide(facts_of(described), fit_gaussian(vectors.pooled), spatial, vectors.pooled)


def side_of_statistics(reference: Reference, pictures: Described | None = None) -> RealSide:
    """Return the statistics of a file as pictures are compared with them.

    Args:
        reference: the file.
        pictures: those in it, which precision and recall look at; None: there are none.

    Raises:
        DataError: the file holds no statistics.
    """
    gaussian = reference.gaussian
    if gaussian is None:
        raise DataError(f"{reference.path} holds no statistics (mu and sigma)")
    digest = hashlib.sha256()
    for tensor in (gaussian.mean, gaussian.covariance):
        digest.update(tensor.numpy().tobytes())
    size = None if pictures is None else pictures.size
    facts = SetFacts(str(reference.path), None, size, digest.hexdigest()[:32])
    pooled = None if pictures is None else pictures.vectors.pooled
    return RealSide(facts, gaussian, reference.spatial, pooled)
