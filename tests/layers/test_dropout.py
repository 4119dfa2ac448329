"""Dropout leaves out the share that is asked for, and keeps the mean."""

from __future__ import annotations

import pytest
import torch

from limner.layers.dropout import Dropout

COUNT = 200_000


@pytest.mark.parametrize("share", [0.1, 0.5, 0.95])
def test_the_share_is_left_out_and_the_mean_stays(share: float) -> None:
    torch.manual_seed(0)
    dropped = Dropout(share)(torch.ones(4, COUNT // 4))
    left_out = (dropped == 0).double().mean().item()
    assert left_out == pytest.approx(share, abs=5 * (share * (1 - share) / COUNT) ** 0.5)
    kept = dropped[dropped != 0]
    assert kept.unique().numel() == 1
    assert kept[0].item() == pytest.approx(1 / (1 - share), rel=1e-4)


def test_every_element_is_drawn_alone() -> None:
    """Four elements share one random number; they must not share their fate."""
    torch.manual_seed(0)
    lanes = (Dropout(0.5)(torch.ones(COUNT)) == 0).view(-1, 4).float()
    assert torch.corrcoef(lanes.T).fill_diagonal_(0).abs().max() < 0.03


def test_gradients_pass_where_values_do() -> None:
    torch.manual_seed(0)
    x = torch.randn(3, 7, 5, dtype=torch.float64, requires_grad=True)
    dropped = Dropout(0.4)(x)
    (gradient,) = torch.autograd.grad(dropped.sum(), x)
    torch.testing.assert_close(gradient * x, dropped)


def test_the_global_seed_decides() -> None:
    layer, x = Dropout(0.3), torch.ones(1000)
    torch.manual_seed(1)
    first, other = layer(x), layer(x)
    torch.manual_seed(1)
    assert torch.equal(first, layer(x)) and not torch.equal(first, other)


def test_nothing_happens_in_evaluation_or_without_a_share() -> None:
    x = torch.randn(5)
    assert Dropout(0.3).eval()(x) is x
    assert Dropout(0.0)(x) is x
