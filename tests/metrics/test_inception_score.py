"""Inception Scores that can be told without computing."""

from __future__ import annotations

import math

import pytest
import torch

from limner.core.errors import ConfigError, DataError
from limner.metrics.inception_score import (
    InceptionScoreSums,
    chunks,
    equal_parts,
    even_parts,
    inception_score,
)


def answers(count: int) -> torch.Tensor:
    return 3 * torch.randn(count, 6, generator=torch.Generator().manual_seed(0))


def test_sure_and_varied_answers_score_the_number_of_classes() -> None:
    sure = 1e3 * torch.eye(8).repeat(20, 1)
    score = inception_score(sure, even_parts(160, 10))
    assert score.mean == pytest.approx(8) and score.deviation == pytest.approx(0, abs=1e-9)


def test_answers_that_are_all_alike_score_one() -> None:
    assert inception_score(answers(1).repeat(30, 1)).mean == pytest.approx(1)


def test_parts_are_scored_by_themselves() -> None:
    """One part sees two classes, the other one: scores 2 and 1."""
    logits = 1e3 * torch.eye(3)[[0, 1, 0, 1, 2, 2]]
    score = inception_score(logits, [4, 2])
    assert score.mean == pytest.approx(1.5) and score.deviation == pytest.approx(0.5)
    assert inception_score(logits, [4, 2], correction=1).deviation == pytest.approx(0.5**0.5)
    mixed = inception_score(logits, [6])
    assert mixed.mean == pytest.approx(3) and math.isfinite(mixed.mean)


def test_sets_are_divided_as_published() -> None:
    assert even_parts(103, 10) == [10, 10, 10, 11, 10, 10, 11, 10, 10, 11]
    assert equal_parts(103, 25) == [25, 25, 25, 25, 3]
    assert chunks(103, 10) == [len(part) for part in torch.arange(103).chunk(10)]
    assert chunks(9, 8) == [len(part) for part in torch.arange(9).chunk(8)]


@pytest.mark.parametrize("batch", [1, 13, 50, 100])
def test_batches_give_what_all_rows_give(batch: int) -> None:
    logits = answers(100)
    sums = InceptionScoreSums(6, even_parts(100, 7))
    for part in logits[:50].split(batch):
        sums.update(part)
    after = InceptionScoreSums(6, even_parts(100, 7))
    after.load_state_dict(sums.state_dict())
    for part in logits[50:].split(batch):
        after.update(part)
    wanted = inception_score(logits, even_parts(100, 7))
    assert after.compute().mean == pytest.approx(wanted.mean, rel=1e-12)
    assert after.compute().deviation == pytest.approx(wanted.deviation, rel=1e-9)


def test_bad_input_is_named() -> None:
    with pytest.raises(ConfigError, match=r"parts=10 .* 1 to 4"):
        inception_score(answers(4))
    broken = answers(20)
    broken[4, 2] = torch.nan
    with pytest.raises(DataError, match="logits of 1 of 20 pictures are NaN"):
        inception_score(broken)
    sums = InceptionScoreSums(6, [5])
    sums.update(answers(4))
    with pytest.raises(DataError, match="4 of 5 announced"):
        sums.compute()
    with pytest.raises(DataError, match="6 pictures are more than the 5"):
        sums.update(answers(2))
