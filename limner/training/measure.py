"""How well a generator predicts pictures it never saw, beside two baselines on the same tokens."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.tokens import Tokens
from limner.training.examples import Examples


@torch.no_grad()
def held_out_loss(generator: Generator, examples: Examples, batch: int) -> dict[str, float]:
    """Return the mean loss over all examples, and the mean of each of its parts.

    Nothing is dropped, and random quantities follow a fixed seed, so two calls agree.

    Args:
        batch: examples at once.

    Returns:
        "loss", the parts by name, and "bits_per_token" where cross-entropy is one of them.
    """
    was_training = generator.training
    generator.eval()
    sums: dict[str, float] = {}
    for index in torch.arange(len(examples)).split(batch):
        loss = generator.loss(*examples.take(index, generator.device), None)
        for name, value in {"loss": loss.total, **loss.parts}.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(index)
    generator.train(was_training)
    means = {name: total / len(examples) for name, total in sums.items()}
    if "cross_entropy" in means:
        means["bits_per_token"] = means["cross_entropy"] / math.log(2)
    return means


def shuffled_condition(examples: Examples, rng: torch.Generator) -> Examples:
    """Return the same tokens under each other's conditions: what a condition says is then wrong."""
    order = torch.randperm(len(examples), generator=rng)
    condition = {name: value[order] for name, value in examples.condition.items()}
    return Examples(examples.tokens, condition)


def baselines(train: Tokens, held_out: Tokens, codebook_size: int) -> dict[str, float]:
    """Return bits per token of counting models, fitted on `train` and measured on `held_out`.

    Returns:
        "unigram" for tokens of one code a place; "bigram" too where they form one raster. Empty
        for other tokens.
    """
    if train.ids is None or held_out.ids is None or train.ids.shape[-1] != 1:
        return {}
    seen, asked = train.ids[..., 0], held_out.ids[..., 0]
    chances = unigram(seen, codebook_size)
    bits = {"unigram": _bits(chances[asked])}
    if len(train.layout.segments) == 1:
        bits["bigram"] = bigram_bits(seen, asked, chances)
    return bits


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
