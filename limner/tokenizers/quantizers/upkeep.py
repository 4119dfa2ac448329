"""What keeps learned codes alive in training.

The codes start as the k-means of the first vectors, codes that hardly any vector falls to are
moved to vectors of the batch, and codes may follow moving averages of their vectors instead of
gradients. All of this is state of a training run, not of the saved quantiser.

Sources: van den Oord et al., "Neural discrete representation learning", NeurIPS 2017, appendix A.1
(moving averages); Zeghidour et al., "SoundStream", arXiv:2107.03312 (k-means start, revival); as in
`VectorQuantize` of vector-quantize-pytorch 1.32.0.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.quantizer import Quantizer


@dataclass(frozen=True)
class UpkeepConfig:
    """How codes are kept alive.

    Args:
        fit: start from the k-means of the first vectors.
        revive: a code is moved when its share of the vectors falls below this part of even use;
            0 leaves it alone.
        decay: of the moving averages, a step.
        average: codes are the moving averages of their vectors; train such a quantiser with
            `pull` 0. Otherwise gradients move them.
        epsilon: by which the averages' counts are smoothed.
    """

    fit: bool = True
    revive: float = 0.03
    decay: float = 0.99
    average: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check(0 <= self.revive < 1, "revive", self.revive, "at least 0 and below 1")
        check(0 <= self.decay < 1, "decay", self.decay, "at least 0 and below 1")
        check(self.epsilon > 0, "epsilon", self.epsilon, "above 0")


class MovingAverages(nn.Module):
    """Moving averages, for every code, of how many vectors fell to it and of their sum.

    Args:
        codebook: whose codes they follow.
    """

    counts: Tensor  # [V]
    sums: Tensor  # [V, D]

    def __init__(self, codebook: Codebook) -> None:
        super().__init__()
        self.register_buffer("counts", torch.ones(len(codebook)))
        self.register_buffer("sums", codebook.codes.detach().clone())

    def restart(self, codebook: Codebook, count: float) -> None:
        """Forget what was seen: as if `count` vectors had fallen to each code, exactly on it."""
        self.counts.fill_(count)
        self.sums.copy_(codebook.codes * count)

    @torch.no_grad()
    def observe(self, vectors: Tensor, ids: Tensor, decay: float) -> None:
        """Take in vectors [n, D] that fell to ids [n]."""
        counts = torch.bincount(ids, minlength=len(self.counts)).to(self.counts)
        sums = torch.zeros_like(self.sums).index_add_(0, ids, vectors.to(self.sums))
        self.counts.lerp_(counts, 1 - decay)
        self.sums.lerp_(sums, 1 - decay)

    @torch.no_grad()
    def set_codes(self, codebook: Codebook, epsilon: float = 1e-5) -> None:
        """Make the codes the means of what fell to them."""
        total, size = self.counts.sum(), len(self.counts)
        smoothed = (self.counts + epsilon) / (total + size * epsilon) * total
        means = self.sums / smoothed.unsqueeze(1)
        codebook.weight.copy_(functional.normalize(means, dim=-1) if codebook.normalize else means)

    @torch.no_grad()
    def revive(self, codebook: Codebook, vectors: Tensor, threshold: float) -> Tensor:
        """Move codes with a count below the threshold to the first of vectors [n, D].

        Returns:
            The codes that were moved, int64 [m]; never more than there are vectors.
        """
        dead = (self.counts < threshold).nonzero().squeeze(1)[: len(vectors)]
        moved = vectors[: len(dead)].to(self.sums)
        codebook.weight[dead] = moved.to(codebook.weight)
        self.counts[dead] = threshold
        self.sums[dead] = threshold * moved
        return dead


class Upkeep(nn.Module):
    """Keeps all learned codes of a quantiser alive; does nothing where codes are fixed.

    Its state belongs into the checkpoint of a training run. In distributed training every process
    must be given the vectors of all, and the same generator.

    Args:
        quantizer: the quantiser that is trained.
        config: see `UpkeepConfig`.
    """

    started: Tensor

    def __init__(self, quantizer: Quantizer, config: UpkeepConfig | None = None) -> None:
        super().__init__()
        self.config = config or UpkeepConfig()
        self.averages = nn.ModuleList(MovingAverages(book) for book in quantizer.codebooks())
        self.register_buffer("started", torch.tensor(False))
        if self.config.average:
            for book in quantizer.codebooks():
                book.requires_grad_(False)

    @property
    def kept(self) -> list[MovingAverages]:
        """The moving averages of each table."""
        return [averages for averages in self.averages if isinstance(averages, MovingAverages)]

    @torch.no_grad()
    def update(
        self, quantizer: Quantizer, vectors: Tensor, ids: Tensor, rng: torch.Generator
    ) -> None:
        """Take in a batch; call it after the optimiser's step.

        Args:
            quantizer: the one it was built for.
            vectors: float [..., D], what was quantised.
            ids: what they became; -1 is passed over.
            rng: on the CPU.
        """
        first = not self.started
        if first and self.config.fit:
            self._fit(quantizer, vectors, ids, rng)
        else:
            self._follow(quantizer, vectors, ids, rng)
        self.started.fill_(True)

    def _fit(
        self, quantizer: Quantizer, vectors: Tensor, ids: Tensor, rng: torch.Generator
    ) -> None:
        """Fit table after table, each to what those before it leave."""
        for index, averages in enumerate(self.kept):
            seen = quantizer.assignments(vectors, ids)[index]
            start_codes(seen.codebook, seen.vectors, rng)
            averages.restart(seen.codebook, len(seen.vectors) / len(seen.codebook))
            ids = quantizer.nearest(vectors)

    def _follow(
        self, quantizer: Quantizer, vectors: Tensor, ids: Tensor, rng: torch.Generator
    ) -> None:
        config = self.config
        for averages, seen in zip(self.kept, quantizer.assignments(vectors, ids), strict=True):
            averages.observe(seen.vectors, seen.ids, config.decay)
            if config.average:
                averages.set_codes(seen.codebook, config.epsilon)
            if config.revive:
                drawn = torch.randperm(len(seen.vectors), generator=rng)
                even = len(seen.vectors) / len(seen.codebook)
                candidates = seen.vectors[drawn.to(seen.vectors.device)]
                averages.revive(seen.codebook, candidates, config.revive * even)


def start_codes(codebook: Codebook, vectors: Tensor, rng: torch.Generator) -> None:
    """Set the codes to the k-means of vectors [n, D], or near them where they are too few."""
    if len(vectors) >= len(codebook):
        codebook.fit(vectors, rng, iterations=10)
        return
    drawn = torch.randint(len(vectors), (len(codebook),), generator=rng)
    jitter = torch.randn(codebook.weight.shape, generator=rng).to(vectors)
    near = vectors[drawn.to(vectors.device)] + 0.1 * vectors.std(dim=0, correction=0) * jitter
    with torch.no_grad():
        codebook.weight.copy_(functional.normalize(near, dim=-1) if codebook.normalize else near)
