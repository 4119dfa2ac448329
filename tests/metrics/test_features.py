"""Feature vectors that are kept."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import CheckpointError, DataError
from limner.metrics.features import FeatureBank


def test_vectors_come_back_in_order_also_after_a_break() -> None:
    features = torch.arange(30.0).reshape(10, 3)
    before, after = FeatureBank(3), FeatureBank(3)
    before.update(features[:4].double())
    after.load_state_dict(before.state_dict())
    after.update(features[4:])
    assert torch.equal(after.compute(), features) and torch.equal(after.compute(), features)
    assert (len(before), len(after)) == (4, 10)


def test_what_is_kept_is_a_copy() -> None:
    features = torch.zeros(2, 3)
    bank = FeatureBank(3)
    bank.update(features)
    features += 1
    assert (bank.compute() == 0).all()


def test_bad_input_is_named() -> None:
    bank = FeatureBank(3)
    with pytest.raises(DataError, match=r"\[2, 4\].*\[N, 3\]"):
        bank.update(torch.zeros(2, 4))
    with pytest.raises(DataError, match="1 of 2 pictures are NaN or infinite"):
        bank.update(torch.tensor([[0.0, 0.0, 0.0], [0.0, torch.inf, 0.0]]))
    with pytest.raises(CheckpointError, match="width 3"):
        bank.load_state_dict(FeatureBank(4).state_dict())
