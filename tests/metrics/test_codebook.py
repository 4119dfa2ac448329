"""Use of a codebook."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import CheckpointError, ConfigError
from limner.metrics.codebook import CodeCounts, usage


def test_usage_counts_codes_and_their_evenness() -> None:
    even = usage(torch.tensor([[0, 1], [2, 3], [-1, -1]]), 8)
    assert even.share == 0.5 and even.perplexity == pytest.approx(4)
    assert even.entropy == pytest.approx(2)
    assert usage(torch.zeros(9, dtype=torch.int64), 8).perplexity == pytest.approx(1)
    lopsided = usage(torch.tensor([0] * 9 + [1]), 2)
    assert lopsided.share == 1 and 1 < lopsided.perplexity < 1.5


def test_batches_add_up_also_after_a_break() -> None:
    ids = torch.randint(50, (40, 7), generator=torch.Generator().manual_seed(0))
    before, after = CodeCounts(64), CodeCounts(64)
    before.update(ids[:11])
    after.load_state_dict(before.state_dict())
    after.update(ids[11:])
    assert after.compute() == usage(ids, 64)
    assert int(before.counts.sum()) == 11 * 7


def test_ids_and_states_of_another_codebook_are_named() -> None:
    with pytest.raises(ConfigError, match=r"ids=8 .* size, 8"):
        usage(torch.tensor([1, 8]), 8)
    with pytest.raises(CheckpointError, match=r"\[4\].*\[8\]"):
        CodeCounts(8).load_state_dict(CodeCounts(4).state_dict())
