"""The numbers that compare a set of drawn pictures with a set of real ones, by their features."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import Tensor

from limner.core.seeds import seeded
from limner.evaluation.features import Described, FeatureSpace, Vectors
from limner.evaluation.resampling import Bootstrap, resampled_frechet, resampled_kernel
from limner.evaluation.result import Better, Number
from limner.evaluation.sides import RealSide
from limner.metrics.draws import permutation
from limner.metrics.frechet import Gaussian, TooFewPictures, fit_gaussian, frechet_distance
from limner.metrics.inception_score import even_parts, inception_score
from limner.metrics.manifold import ManifoldScores, manifold_scores

MOST = 10_000
"""Pictures of a set that numbers look at which compare all pairs; ADM's precision and recall look
at so many real pictures, and at all drawn ones."""
NEIGHBOURS = 3  # of precision and recall
COVERAGE_NEIGHBOURS = 5
DRAWN, REAL = "drawn pictures", "real pictures"

T = TypeVar("T")


@dataclass(frozen=True, eq=False)
class Comparison:
    """Measures how near a set of drawn pictures is to a set of real ones.

    Args:
        real: the evaluation set.
        made: the drawn pictures.
        space: in which both were described.
        bootstrap: how intervals are found.
        other: real pictures that are not in the evaluation set; they are measured too, to show
            what drawn ones can reach.
    """

    real: RealSide
    made: Described
    space: FeatureSpace
    bootstrap: Bootstrap
    other: Described | None = None

    def numbers(self) -> tuple[dict[str, Number], tuple[str, ...]]:
        """Return the numbers by name, and what is to be known of them.

        Raises:
            DataError: the sets are of other features, or too small.
        """
        vectors, found = self.made.vectors, {}
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            name = self.space.title(self.space.distance)
            found["frechet_distance"] = self._frechet(name, self.real.gaussian, _pooled)
            if self.real.spatial is not None and vectors.spatial is not None:
                name = self.space.title(f"s{self.space.distance}")
                found["spatial_frechet_distance"] = self._frechet(name, self.real.spatial, _spatial)
        if vectors.logits is not None:
            found["inception_score"] = self._inception_score(vectors.logits)
        if self.real.pooled is not None:
            found["kernel_distance"] = self._kernel(self.real.pooled)
            found["precision"], found["recall"] = self._overlap(self.real.pooled)
            found["coverage"] = self._coverage(self.real.pooled)
        few = [str(w.message) for w in caught if issubclass(w.category, TooFewPictures)]
        return found, tuple(dict.fromkeys(few))

    def course(self, parts: int = 4) -> tuple[tuple[int, float], ...]:
        """Return the Fréchet distance of an eighth, a quarter, a half and all drawn pictures."""
        pooled = self._moved(self.made.vectors.pooled)
        counts = sorted({max(2, len(pooled) >> halvings) for halvings in range(parts)})
        gaussian = self.real.gaussian
        return tuple(
            (n, float(resampled_frechet(gaussian, pooled[:n], torch.arange(n)[None])))
            for n in counts
        )

    def _frechet(self, title: str, real: Gaussian, of: Callable[[Vectors], Tensor]) -> Number:
        features = of(self.made.vectors)
        draws = self.bootstrap.draws(len(features))
        return self._number(
            title,
            frechet_distance(real, fit_gaussian(features)),
            resampled_frechet(real, self._moved(features), draws),
            "lower",
            {"features": features.shape[1]},
            self._of_other(lambda other: frechet_distance(real, fit_gaussian(of(other)))),
        )

    def _inception_score(self, logits: Tensor) -> Number:
        draws = self.bootstrap.draws(len(logits))
        return self._number(
            "Inception Score",
            _score(logits),
            torch.tensor([_score(logits[index]) for index in draws]),
            "higher",
            {"parts": _parts(len(logits))},
            self._of_other(lambda other: _score(other.logits)),
            least=1.0,
        )

    def _kernel(self, real: Tensor) -> Number:
        a, b = self._some(real), self._some(self.made.vectors.pooled)
        draws = self.bootstrap.draws(len(b))
        value, resampled = resampled_kernel(a, b, draws)
        none = draws[:0]
        return self._number(
            self.space.title(self.space.kernel),
            value,
            resampled,
            "lower",
            {"pairs": "all", "drawn": len(b), "real": len(a)},
            self._of_other(lambda other: resampled_kernel(a, self._some(other.pooled), none)[0]),
            least=-math.inf,
        )

    def _overlap(self, real: Tensor) -> tuple[Number, Number]:
        a, b = self._some(real), self._moved(self.made.vectors.pooled)
        scores = manifold_scores(a, b, NEIGHBOURS)
        others = self._of_other(lambda o: manifold_scores(a, self._moved(o.pooled), NEIGHBOURS))
        settings = {"neighbours": NEIGHBOURS, "drawn": len(b), "real": len(a)}
        return (
            self._share("precision", scores, others, DRAWN, settings),
            self._share("recall", scores, others, REAL, settings),
        )

    def _coverage(self, real: Tensor) -> Number:
        a, b = self._some(real), self._some(self.made.vectors.pooled)
        k = COVERAGE_NEIGHBOURS
        scores = manifold_scores(a, b, k)
        others = self._of_other(lambda o: manifold_scores(a, self._some(o.pooled), k))
        settings = {"neighbours": k, "drawn": len(b), "real": len(a)}
        return self._share("coverage", scores, others, REAL, settings)

    def _share(
        self,
        name: str,
        scores: ManifoldScores,
        others: ManifoldScores | None,
        over: str,
        settings: dict[str, Any],
    ) -> Number:
        share = getattr(scores, name)
        real = None if others is None else getattr(others, name)
        count = settings["real" if over == REAL else "drawn"]
        resampled = self.bootstrap.shares(share, count)
        title = self.space.title(name)
        return self._number(title, share, resampled, "higher", settings, real, over, most=1.0)

    def _number(
        self,
        title: str,
        value: float,
        resampled: Tensor,
        better: Better,
        settings: dict[str, Any],
        real: float | None,
        over: str = DRAWN,
        least: float = 0.0,
        most: float = math.inf,
    ) -> Number:
        low, high = self.bootstrap.interval(value, resampled, least, most)
        everywhere = {"drawn": len(self.made), "real": self.real.facts.count}
        count = None if self.other is None else len(self.other)
        return Number(title, value, low, high, better, over, everywhere | settings, real, count)

    def _of_other(self, measure: Callable[[Vectors], T]) -> T | None:
        """Measure the other real pictures, if there are any."""
        return None if self.other is None else measure(self.other.vectors)

    def _some(self, features: Tensor) -> Tensor:
        """Return at most `MOST` rows, chosen at random, where they are computed with."""
        if len(features) > MOST:
            rng = seeded(0, "pairs", len(features))
            features = features[torch.randperm(len(features), generator=rng)[:MOST]]
        return self._moved(features)

    def _moved(self, features: Tensor) -> Tensor:
        """Return features where numbers are computed: Apple's GPUs know no float64."""
        return features.to(self.space.device if self.space.device.type == "cuda" else "cpu")


def _pooled(vectors: Vectors) -> Tensor:
    return vectors.pooled


def _spatial(vectors: Vectors) -> Tensor:
    assert vectors.spatial is not None
    return vectors.spatial


def _score(logits: Tensor | None) -> float:
    """Return the Inception Score as torch-fidelity divides the set; fewer parts of fewer rows."""
    assert logits is not None
    count = len(logits)
    return inception_score(logits[permutation(count)], even_parts(count, _parts(count))).mean


def _parts(count: int) -> int:
    return min(10, count)
