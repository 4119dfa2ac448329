"""Which entries of a memory are worth keeping, against a slow and plain selection."""

import pytest
import torch

from limner.layers.cache_selection import (
    attention_scores,
    product_scores,
    select,
    window_of,
)


def test_the_window_is_the_middles_of_cells():
    # a 5 x 5 map behind 7 entries in 2 x 2 cells of 2: rows and columns 0 and 2
    assert window_of(32, 25, 4).tolist() == [
        7 + row * 5 + column for row in (0, 2) for column in (0, 2)
    ]
    assert window_of(64, 64, 16).tolist()[:5] == [0, 2, 4, 6, 16]
    assert window_of(29, 9, 16).tolist() == list(range(13, 29))  # too small a map
    assert window_of(20, 12, 4).tolist() == [16, 17, 18, 19]  # no square map
    assert window_of(56, 36, 6).tolist() == list(range(50, 56))  # no square window
    assert window_of(3, 3, 16).tolist() == [0, 1, 2]


@pytest.mark.parametrize("pooling", ["max", "average"])
def test_the_best_scores_are_kept_beside_the_window(pooling):
    rng = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 3, 4, 8, generator=rng, dtype=torch.float64)
    keys = torch.randn(2, 3, 30, 8, generator=rng, dtype=torch.float64)
    window = torch.tensor([14, 20, 21, 29])
    found = select(product_scores(queries, keys), window, 12, 3, pooling)
    assert found.shape == (2, 3, 12)
    others = [place for place in range(30) if place not in window.tolist()]
    for row in range(2):
        for head in range(3):
            score = (queries[row, head] @ keys[row, head].T).sum(0) / 8**0.5
            score[window] = -torch.inf
            padded = [-torch.inf if pooling == "max" else 0.0, *score.tolist()]
            padded.append(padded[0])
            pooled = {}
            for place in others:
                near = padded[place : place + 3]
                pooled[place] = max(near) if pooling == "max" else sum(near) / 3
            kept = found[row, head].tolist()
            assert kept == sorted(set(kept)) and set(window.tolist()) <= set(kept)
            left = sorted(pooled.values(), reverse=True)[:8]
            chosen = sorted((pooled[p] for p in kept if p in pooled), reverse=True)
            assert chosen == pytest.approx(left)


def test_attention_scores_are_what_the_softmax_gives_an_entry():
    rng = torch.Generator().manual_seed(0)
    queries = torch.randn(2, 3, 4, 8, generator=rng, dtype=torch.float64)
    keys = torch.randn(2, 3, 9, 8, generator=rng, dtype=torch.float64)
    scores = attention_scores(queries, keys, 0.5)
    assert scores.sum(-1).allclose(torch.full((2, 3), 4.0, dtype=torch.float64))
    weights = (0.5 * queries[1, 2] @ keys[1, 2].T).exp()
    expected = (weights / weights.sum(-1, keepdim=True)).sum(0)
    assert scores[1, 2].allclose(expected)
