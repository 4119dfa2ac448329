"""Inception Score: how sure a classifier is of each picture, and how varied its answers are.

exp(mean KL(p(y|x) || p(y))), over several parts of a set. Protocols divide the set differently:

- `even_parts`: as torch-fidelity does, after a `permutation`; deviation over the parts;
- `equal_parts`: parts of a fixed size, the last one smaller: ADM's evaluator;
- `chunks`: so many parts of the same size, the last one smaller: torchmetrics, `correction` 1.

Salimans et al., "Improved techniques for training GANs", NeurIPS 2016 (arXiv:1606.03498);
torch-fidelity `metric_isc.py`; openai/guided-diffusion `evaluations/evaluator.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor

from limner.core.errors import DataError, check
from limner.metrics.accumulator import Accumulator
from limner.metrics.features import check_features
from limner.metrics.scores import Score, score_of


def even_parts(count: int, parts: int = 10) -> list[int]:
    """Return sizes of parts that differ by one at most, as the bounds i count // parts give them.

    Raises:
        ConfigError: more parts than pictures.
    """
    check(0 < parts <= count, "parts", parts, f"from 1 to {count}, the number of pictures")
    bounds = [count * part // parts for part in range(parts + 1)]
    return [end - start for start, end in pairwise(bounds)]


def equal_parts(count: int, size: int = 5000) -> list[int]:
    """Return sizes of parts of `size` pictures, the last one with what is left."""
    check(size > 0, "size", size, "at least 1")
    return [min(size, count - start) for start in range(0, count, size)]


def chunks(count: int, parts: int = 10) -> list[int]:
    """Return the sizes of the parts into which `torch.chunk` divides a set."""
    check(0 < parts <= count, "parts", parts, f"from 1 to {count}, the number of pictures")
    return equal_parts(count, -(-count // parts))


class InceptionScoreSums(Accumulator):
    """Sums up the answers of a classifier, batch by batch.

    Args:
        classes: C of them.
        parts: sizes of the parts, in the order in which the pictures come.
    """

    gathered = ("count", "chances", "certainty")

    def __init__(self, classes: int, parts: Sequence[int]) -> None:
        fits = len(parts) > 0 and min(parts) > 0
        check(fits, "parts", list(parts), "the sizes of one or more parts, none empty")
        self.classes = classes
        self.sizes = torch.tensor(parts)
        self.count = torch.zeros((), dtype=torch.int64)
        self.chances = torch.zeros(len(parts), classes, dtype=torch.float64)
        self.certainty = torch.zeros(len(parts), dtype=torch.float64)

    def update(self, logits: Tensor) -> None:
        """Count the answers to more pictures, float [B, C].

        Raises:
            DataError: they are of other classes, not finite, or more than the parts take.
        """
        check_features(logits, width=self.classes, name="logits")
        total = int(self.count) + len(logits)
        if total > int(self.sizes.sum()):
            raise DataError(f"{total} pictures are more than the {int(self.sizes.sum())} announced")
        rows = torch.arange(int(self.count), total)
        part = torch.bucketize(rows, self.sizes.cumsum(0), right=True)
        chances = logits.detach().cpu().double().softmax(dim=1)
        self.chances.index_add_(0, part, chances)
        self.certainty.index_add_(0, part, torch.xlogy(chances, chances).sum(dim=1))
        self.count = self.count + len(logits)

    def compute(self, correction: int = 0) -> Score:
        """Return the score.

        Args:
            correction: of the standard deviation over the parts, as in `torch.std`.

        Raises:
            DataError: fewer pictures came than the parts take.
        """
        if int(self.count) != int(self.sizes.sum()):
            raise DataError(
                f"{int(self.count)} of {int(self.sizes.sum())} announced pictures came: all must"
            )
        share = self.chances / self.sizes.unsqueeze(1)
        spread = -torch.xlogy(share, share).sum(dim=1)
        return score_of((self.certainty / self.sizes + spread).exp(), correction)


def inception_score(
    logits: Tensor, parts: Sequence[int] | None = None, correction: int = 0
) -> Score:
    """Return the Inception Score of a set.

    Args:
        logits: float [N, C], in practice those without bias (`InceptionFeatures.logits_unbiased`).
        parts: their sizes, in the order of the rows; None: 10 even ones.
        correction: of the standard deviation over the parts, as in `torch.std`.

    Raises:
        DataError: logits are not finite, or not as many as the parts take.
    """
    check_features(logits, least=1, name="logits")
    sums = InceptionScoreSums(logits.shape[1], parts or even_parts(len(logits)))
    sums.update(logits)
    return sums.compute(correction)
