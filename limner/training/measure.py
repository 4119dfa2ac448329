"""How well a generator predicts pictures it never saw, beside two baselines on the same tokens."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from limner.core.head import LossBreakdown
from limner.core.tokens import Tokens
from limner.training.engine import Engine
from limner.training.examples import Examples

MOST_COUNTED = 50_000  # examples that a counting model is fitted on


@torch.no_grad()
def shared_means(
    measure: Callable[[Tensor], Mapping[str, float]], count: int, batch: int, engine: Engine
) -> dict[str, float]:
    """Return the means over all examples of what is measured on batches of them.

    Several processes share the examples.

    Args:
        measure: means over the examples at int64 [n], by name.
        count: number of examples.
        batch: examples at once.
    """
    batches = torch.arange(count).split(batch)
    sums: dict[str, float] = {}
    for begin in range(0, len(batches), engine.ranks):
        mine = begin + engine.rank
        # every process takes part in every round, with nothing to say where none is left
        index = batches[mine if mine < len(batches) else 0]
        weight = len(index) if mine < len(batches) else 0
        for name, value in measure(index).items():
            sums[name] = sums.get(name, 0.0) + value * weight
    totals = engine.total(torch.tensor(list(sums.values()), dtype=torch.float64))
    return {name: total / count for name, total in zip(sums, totals.tolist(), strict=True)}


def held_out_loss(
    loss: Callable[[Tensor], LossBreakdown], count: int, batch: int, engine: Engine
) -> dict[str, float]:
    """Return the mean loss over all examples, and the mean of each of its parts.

    Nothing is dropped, and random quantities follow a fixed seed, so two calls agree.

    Args:
        loss: of the examples at int64 [n], as it is measured.
        count: number of examples.
        batch: examples at once.

    Returns:
        "loss", the parts by name, and "bits_per_token" where cross-entropy is one of them.
    """

    def values(index: Tensor) -> dict[str, float]:
        breakdown = loss(index)
        parts = {"loss": breakdown.total, **breakdown.parts}
        return {name: float(value) for name, value in parts.items()}

    means = shared_means(values, count, batch, engine)
    if "cross_entropy" in means:
        means["bits_per_token"] = means["cross_entropy"] / math.log(2)
    return means


def baselines(train: Examples, held_out: Examples, codebook_size: int) -> dict[str, float]:
    """Return bits per token of counting models, fitted on `train` and measured on `held_out`.

    Of very many examples, evenly spread ones are counted.

    Returns:
        "unigram" for tokens of one code a place; "bigram" too where they form one raster. Empty
        for other tokens.
    """
    return counted_bits(_some(train), _some(held_out), codebook_size)


def counted_bits(train: Tokens, held_out: Tokens, codebook_size: int) -> dict[str, float]:
    """Return what `baselines` returns, for tokens at hand."""
    if train.ids is None or held_out.ids is None or train.ids.shape[-1] != 1:
        return {}
    seen, asked = train.ids[..., 0], held_out.ids[..., 0]
    chances = unigram(seen, codebook_size)
    bits = {"unigram": _bits(chances[asked])}
    if len(train.layout.segments) == 1:
        bits["bigram"] = bigram_bits(seen, asked, chances)
    return bits


def _some(examples: Examples) -> Tokens:
    return examples.tokens(torch.arange(0, len(examples), 1 + len(examples) // MOST_COUNTED))


def unigram(ids: Tensor, codebook_size: int) -> Tensor:
    """Return each code's share among int64 ids [B, N], add-one smoothed, float64 [V]."""
    counts = torch.bincount(ids.flatten(), minlength=codebook_size).double() + 1
    return counts / counts.sum()


def bigram_bits(train: Tensor, held_out: Tensor, chances: Tensor) -> float:
    """Return bits per token of (1 - w) unigram + w bigram, the first token by the unigram alone.

    The weight w is the best one for the held-out tokens themselves: a favour to the baseline.

    Args:
        train: int64 [B, N], whose pairs of neighbours are counted.
        held_out: int64 [M, N].
        chances: float64 [V], the unigram.
    """
    size = len(chances)
    seen, counts = _pairs(train, size).unique(return_counts=True)
    context = torch.zeros(size, dtype=torch.float64).index_add_(0, seen // size, counts.double())
    asked = _pairs(held_out, size)
    before = context[asked // size]
    where = torch.searchsorted(seen, asked).clamp(max=len(seen) - 1)
    pairs = torch.where(seen[where] == asked, counts[where], 0).double()
    single = chances[held_out[:, 1:]].flatten()
    # after a code that never had a successor, the unigram is all there is
    follows = torch.where(before > 0, pairs / before.clamp(min=1), single)
    first = chances[held_out[:, 0]]
    weights = torch.linspace(0, 0.99, 100, dtype=torch.float64)
    return min(_bits(torch.cat([first, single + w * (follows - single)])) for w in weights)


def _pairs(ids: Tensor, size: int) -> Tensor:
    return (ids[:, :-1] * size + ids[:, 1:]).flatten()


def _bits(chances: Tensor) -> float:
    return -float(chances.log2().mean())
