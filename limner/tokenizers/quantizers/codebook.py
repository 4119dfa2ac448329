"""Vector quantisation by the nearest code of a learned table.

Sources: FoundationVision/LlamaGen `tokenizer/tokenizer_image/vq_model.py` (cosine codes, entropy
loss); van den Oord et al., "Neural discrete representation learning", NeurIPS 2017 (its two
losses); Arthur and Vassilvitskii, "k-means++", SODA 2007 (seeding).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import DataError, check
from limner.tokenizers.quantizers.gradients import rotated, straight_through
from limner.tokenizers.quantizers.quantizer import Assignment, Quantized, Quantizer, wide

_CHUNK = 2**22  # scores [n, V] computed at once: small enough to stay in the cache hierarchy


class Codebook(Quantizer):
    """A table of codes; a vector is replaced by the nearest.

    Args:
        size: V, number of codes.
        width: D of a code.
        normalize: compare directions: vectors and codes are divided by their length.
        commitment: weight of the loss that draws vectors to their codes.
        entropy: weight of the entropy loss; 0 leaves it out.
        pull: weight of the loss that draws codes to their vectors; 0 leaves it out.
        rotation: pass gradients by the rotation trick rather than straight through.

    Raises:
        ConfigError: a number that is not accepted.
    """

    def __init__(
        self,
        size: int,
        width: int,
        normalize: bool = False,
        commitment: float = 0.25,
        entropy: float = 0.0,
        pull: float = 1.0,
        rotation: bool = False,
    ) -> None:
        super().__init__()
        check(size > 0, "codebook_size", size, "at least 1")
        check(width > 0, "width", width, "at least 1")
        self.codebook_size = size
        self.width = width
        self.normalize = normalize
        self.commitment = commitment
        self.entropy = entropy
        self.pull = pull
        self.rotation = rotation
        self.weight = nn.Parameter(torch.empty(size, width).uniform_(-1 / size, 1 / size))
        if normalize:
            with torch.no_grad():
                self.weight.copy_(functional.normalize(self.weight, dim=-1))

    def __len__(self) -> int:
        return self.weight.shape[0]

    @property
    def codes(self) -> Tensor:
        """The codes as they are compared and looked up, float [V, D]."""
        return functional.normalize(self.weight, dim=-1) if self.normalize else self.weight

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the codes of int64 ids [...], float [..., D]."""
        rows = functional.embedding(ids, self.weight)
        return functional.normalize(rows, dim=-1) if self.normalize else rows

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the nearest code of vectors [..., D], int64 [...]."""
        flat = self.comparable(vectors).flatten(0, -2)
        return nearest(flat, self.codes.to(flat)).reshape(vectors.shape[:-1])

    def quantize(self, vectors: Tensor) -> Quantized:
        """Quantise vectors [..., D] for training."""
        vectors = self.comparable(vectors)
        ids = self.nearest(vectors)
        codes = self.lookup(ids)
        losses = {"commitment": self.commitment * commitment_loss(vectors, codes)}
        if self.pull:
            losses["vq"] = self.pull * functional.mse_loss(codes, vectors.detach())
        if self.entropy:
            losses["entropy"] = self.entropy * self.entropy_loss(vectors)
        passing = rotated if self.rotation else straight_through
        return Quantized(passing(vectors, codes), ids, losses)

    def codebooks(self) -> Sequence[Codebook]:
        """Return this table."""
        return (self,)

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return vectors [..., D] and their ids [...], without those whose id is -1."""
        kept = ids >= 0
        return (Assignment(self, self.comparable(vectors)[kept], ids[kept]),)

    def entropy_loss(self, vectors: Tensor, temperature: float = 0.01) -> Tensor:
        """Return how undecided each choice is, less how evenly all codes are used, float [].

        A choice is the softmax of minus the squared distances over the temperature. Holds [N, V]
        numbers at once.
        """
        flat = self.comparable(vectors).flatten(0, -2)
        logits = -squared_distances(flat, self.codes.to(flat)) / temperature
        chances = logits.softmax(dim=-1)
        mean = chances.mean(dim=0)
        # the mean of many chances may underflow, a single choice is safe in log space
        spread = -(mean * torch.log(mean + 1e-5)).sum()
        return -(chances * logits.log_softmax(dim=-1)).sum(dim=-1).mean() - spread

    @torch.no_grad()
    def fit(
        self, vectors: Tensor, rng: torch.Generator, iterations: int = 20, warm: bool = False
    ) -> None:
        """Set the codes to the k-means of vectors [N, D], in place.

        A code that loses all its vectors is moved to a badly served one. Of very many vectors, 128
        a code are drawn.

        Args:
            warm: start from the present codes; otherwise from k-means++ seeds.

        Raises:
            DataError: fewer vectors than codes.
        """
        if len(vectors) < len(self):
            raise DataError(f"{len(vectors)} vectors cannot fit {len(self)} codes: more are needed")
        drawn = torch.randperm(len(vectors), generator=rng)[: 128 * len(self)]
        vectors = self.comparable(vectors[drawn.to(vectors.device)]).to(self.weight.device)
        codes = self.codes.to(vectors) if warm else seed_codes(vectors, len(self), rng)
        for _ in range(iterations):
            codes = lloyd_round(vectors, codes, rng)
            if self.normalize:
                codes = functional.normalize(codes, dim=-1)
        self.weight.copy_(codes)

    def comparable(self, vectors: Tensor) -> Tensor:
        """Return vectors [..., D] as they are compared with the codes."""
        vectors = wide(vectors)
        return functional.normalize(vectors, dim=-1) if self.normalize else vectors


def commitment_loss(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the mean squared distance that draws vectors to their codes, float []."""
    return functional.mse_loss(vectors, codes.detach())


def squared_distances(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return squared distances of vectors [N, D] to codes [V, D], float [N, V]."""
    with torch.autocast(vectors.device.type, enabled=False):
        cross = torch.addmm(codes.square().sum(dim=1), vectors, codes.T, alpha=-2)
    return vectors.square().sum(dim=1, keepdim=True) + cross


def nearest(vectors: Tensor, codes: Tensor) -> Tensor:
    """Return the index of the nearest code of each vector, int64 [N]."""
    return torch.cat([ids for _, ids in _nearest_chunks(vectors, codes)])


def seed_codes(vectors: Tensor, size: int, rng: torch.Generator) -> Tensor:
    """Choose k-means++ seeds among vectors [N, D]: each with chance by its distance to the others.

    At most 16 vectors a code are considered.
    """
    chosen = torch.randperm(len(vectors), generator=rng)[: 16 * size]
    pool = vectors[chosen.to(vectors.device)]
    codes = torch.empty(size, vectors.shape[1], dtype=vectors.dtype, device=vectors.device)
    codes[0] = pool[0]
    distance = (pool - codes[0]).square().sum(dim=1)
    for index in range(1, size):
        codes[index] = pool[_draw(distance, 1, rng)]
        torch.minimum(distance, (pool - codes[index]).square().sum(dim=1), out=distance)
    return codes


def lloyd_round(vectors: Tensor, codes: Tensor, rng: torch.Generator) -> Tensor:
    """Return the mean of the vectors [N, D] nearest to each code [V, D]; revive empty codes."""
    offsets, chosen = zip(*_nearest_chunks(vectors, codes))
    ids = torch.cat(chosen)
    sums = torch.zeros_like(codes).index_add_(0, ids, vectors)
    counts = torch.bincount(ids, minlength=len(codes))
    means = sums / counts.clamp(min=1).unsqueeze(1)
    empty = (counts == 0).nonzero().squeeze(1)
    if len(empty):
        error = (torch.cat(offsets) + vectors.square().sum(dim=1)).clamp(min=0)
        means[empty] = vectors[_draw(error, len(empty), rng)]
    return means


def _nearest_chunks(vectors: Tensor, codes: Tensor) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield (squared distance to the nearest code less |x|^2, its index), chunk by chunk."""
    length = codes.square().sum(dim=1)
    with torch.autocast(vectors.device.type, enabled=False):
        for part in vectors.split(max(1, _CHUNK // len(codes))):
            least = torch.addmm(length, part, codes.T, alpha=-2).min(dim=1)
            yield least.values, least.indices


def _draw(weight: Tensor, count: int, rng: torch.Generator) -> Tensor:
    """Draw indices with chance by weight [N], int64 [count]; evenly where all weights are 0."""
    edges = weight.cpu().double().add(1e-12).cumsum(dim=0)
    points = torch.rand(count, generator=rng, dtype=torch.float64) * edges[-1]
    drawn = torch.searchsorted(edges, points).clamp(max=len(weight) - 1)
    return drawn.to(weight.device)
