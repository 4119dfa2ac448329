"""Baselines agree with counting by hand."""

from __future__ import annotations

import math
from collections import Counter
from itertools import pairwise

import pytest
import torch

from limner.conditions import ClassCondition
from limner.core.layout import grid, pyramid
from limner.core.tokens import from_ids, from_values
from limner.training.engine import Engine
from limner.training.examples import Told
from limner.training.measure import counted_bits, shared_means

SIZE = 5


def ids(seed: int, count: int) -> torch.Tensor:
    """Codes that mostly follow their predecessor by one, over a 2 x 3 grid."""
    rng = torch.Generator().manual_seed(seed)
    start = torch.randint(SIZE, (count, 1), generator=rng)
    steps = (torch.rand(count, 6, generator=rng) < 0.8).long()
    return (start + steps.cumsum(1)) % (SIZE - 1)


def by_hand(train: list[list[int]], held_out: list[list[int]]) -> dict[str, float]:
    counts = Counter(code for row in train for code in row)
    total = sum(counts.values())
    single = {code: (counts[code] + 1) / (total + SIZE) for code in range(SIZE)}
    pairs = Counter(pair for row in train for pair in pairwise(row))
    follows = Counter(code for row in train for code in row[:-1])

    def bits(weight: float) -> float:
        logs = []
        for row in held_out:
            logs.append(math.log2(single[row[0]]))
            for a, b in pairwise(row):
                share = pairs[a, b] / follows[a] if follows[a] else single[b]
                logs.append(math.log2((1 - weight) * single[b] + weight * share))
        return -sum(logs) / len(logs)

    return {"unigram": bits(0.0), "bigram": min(bits(w / 100) for w in range(100))}


def test_baselines_agree_with_counting() -> None:
    train, held_out = ids(0, 40), ids(1, 9)
    held_out[0, 2] = SIZE - 1  # never seen in training
    layout = grid(2, 3)
    got = counted_bits(from_ids(layout, train), from_ids(layout, held_out), SIZE)
    expected = by_hand(train.tolist(), held_out.tolist())
    assert got == pytest.approx(expected, abs=1e-9)
    assert got["bigram"] < got["unigram"] - 0.3


def test_a_bigram_needs_a_raster_and_counts_need_codes() -> None:
    scales = pyramid(((1, 1), (1, 5)))
    tokens = from_ids(scales, ids(0, 8))
    assert set(counted_bits(tokens, tokens, SIZE)) == {"unigram"}
    values = from_values(grid(1, 2, kind="values"), torch.zeros(3, 2, 4))
    assert counted_bits(values, values, 0) == {}


def test_shuffling_tells_each_picture_what_another_is() -> None:
    told = Told(ClassCondition(30, 4), torch.arange(30), torch.arange(30) % 3)
    moved = told.shuffled(torch.Generator().manual_seed(0))
    label = moved.of(torch.arange(30))["label"]
    assert sorted(label.tolist()) == list(range(30))
    assert label.tolist() != list(range(30))


def test_means_count_every_example_alike() -> None:
    values = torch.arange(7.0)
    means = shared_means(lambda index: {"x": float(values[index].mean())}, 7, 3, Engine("cpu"))
    assert means == {"x": pytest.approx(3.0)}
