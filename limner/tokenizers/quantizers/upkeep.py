"""What keeps learned codes alive in training.

The codes start as the k-means of the first vectors, codes that fall out of use are moved to badly
served vectors of the batch, and codes may follow moving averages of their vectors instead of
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
from limner.tokenizers.quantizers.quantizer import Assignment, Quantizer


@dataclass(frozen=True)
class UpkeepConfig:
    """How codes are kept alive.

    Args:
        fit: start from the k-means of the first vectors.
        patience: a code is moved when no vector fell to it while so many fell to each code on
            average; 0 leaves codes where they are.
        decay: of the moving averages, a step.
        average: codes are the moving averages of their vectors; train such a quantiser with
            `pull` 0. Otherwise gradients move them.
        epsilon: by which the averages' counts are smoothed.
    """

    fit: bool = True
    patience: float = 50.0
    decay: float = 0.99
    average: bool = False
    epsilon: float = 1e-5

    def __post_init__(self) -> None:
        check(self.patience >= 0, "patience", self.patience, "0 or more")
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

    def revive(self, codebook: Codebook, vectors: Tensor, threshold: float) -> Tensor:
        """Move codes with a count below the threshold to the first of vectors [n, D].

        Returns:
            The codes that were moved, int64 [m]; never more than there are vectors.
        """
        return self.move(codebook, self.counts < threshold, vectors, threshold)

    @torch.no_grad()
    def move(self, codebook: Codebook, which: Tensor, vectors: Tensor, count: float) -> Tensor:
        """Move codes to the first of vectors [n, D], as if `count` vectors had fallen to each.

        Args:
            which: bool [V], of the codes.

        Returns:
            The codes that were moved, int64 [m]; never more than there are vectors.
        """
        dead = which.nonzero().squeeze(1)[: len(vectors)]
        moved = vectors[: len(dead)].to(self.sums)
        codebook.weight[dead] = moved.to(codebook.weight)
        self.counts[dead] = count
        self.sums[dead] = count * moved
        return dead


class Misses(nn.Module):
    """How long each code has been out of use.

    Args:
        size: V, number of codes.
    """

    passed: Tensor  # [V], vectors a code that went by since one fell to it

    def __init__(self, size: int) -> None:
        super().__init__()
        self.register_buffer("passed", torch.zeros(size))

    def observe(self, ids: Tensor) -> None:
        """Take in the ids [n] of a step's vectors."""
        used = torch.bincount(ids, minlength=len(self.passed)) > 0
        self.passed.add_(len(ids) / len(self.passed)).masked_fill_(used, 0.0)

    def over(self, patience: float) -> Tensor:
        """Return which codes more vectors than `patience` went by, bool [V]; they start anew."""
        dead = self.passed > patience
        self.passed.masked_fill_(dead, 0.0)
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
        self.misses = nn.ModuleList(Misses(len(book)) for book in quantizer.codebooks())
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
        seen_of = quantizer.assignments(vectors, ids)
        for averages, misses, seen in zip(self.kept, self.misses, seen_of, strict=True):
            assert isinstance(misses, Misses)
            averages.observe(seen.vectors, seen.ids, config.decay)
            if config.average:
                averages.set_codes(seen.codebook, config.epsilon)
            misses.observe(seen.ids)
            if config.patience and bool((dead := misses.over(config.patience)).any()):
                even = len(seen.vectors) / len(seen.codebook)
                averages.move(seen.codebook, dead, badly_served(seen, rng), even)


def badly_served(seen: Assignment, rng: torch.Generator) -> Tensor:
    """Return some of the vectors, at most as many as there are codes, float [n, D].

    They are drawn by their squared distance to their codes: codes that move to them serve what is
    rare, not what is frequent (the background, say) and served already.
    """
    apart = (seen.vectors - seen.codebook.codes[seen.ids]).square().sum(dim=1).cpu().double()
    count = min(len(apart), len(seen.codebook), int((apart > 0).sum()))
    if count == 0:
        return seen.vectors[:0]
    drawn = torch.multinomial(apart, count, generator=rng)
    return seen.vectors[drawn.to(seen.vectors.device)]


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
