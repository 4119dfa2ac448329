"""Classes as a condition."""

from __future__ import annotations

import pytest
import torch

from limner.conditions import ClassCondition
from limner.core.errors import ConfigError
from limner.core.request import Request


@pytest.fixture
def condition() -> ClassCondition:
    torch.manual_seed(0)
    return ClassCondition(classes=4, width=6)


def test_every_class_and_no_class_have_a_vector(condition: ClassCondition) -> None:
    asked = condition.ask(Request(4, labels=[3, 0, 3, 2]))
    assert asked["label"].tolist() == [3, 0, 3, 2]
    prefix = condition.prefix(asked)
    assert prefix.shape == (4, 1, 6)
    assert torch.equal(prefix[:, 0], condition.table.weight[[3, 0, 3, 2]])
    assert condition.present(asked).tolist() == [[True]] * 4
    null = condition.prefix(condition.ask(Request(2)))
    assert torch.equal(null, condition.table.weight[4].expand(2, 1, 6))
    assert torch.equal(condition.prefix(condition.null(asked)), null[:1].expand(4, 1, 6))


@pytest.mark.parametrize("label", [-1, 4, 100])
def test_a_class_that_does_not_exist_is_named(condition: ClassCondition, label: int) -> None:
    with pytest.raises(ConfigError, match=f"class={label} .* from 0 to 3"):
        condition.ask(Request(2, labels=[0, label]))


@pytest.mark.parametrize("labels", [None, [1]])
def test_prompts_are_refused(condition: ClassCondition, labels: list[int] | None) -> None:
    with pytest.raises(ConfigError, match="prompts are not accepted"):
        condition.ask(Request(1, labels=labels, prompts=["a fox"]))


def test_a_share_of_the_labels_is_dropped(condition: ClassCondition) -> None:
    asked = {"label": torch.arange(4).repeat(500)}

    def dropped(share: float) -> torch.Tensor:
        rng = torch.Generator().manual_seed(0)
        return condition.drop(asked, share, rng)["label"]

    null = dropped(0.1) == 4
    assert 150 < int(null.sum()) < 250
    assert torch.equal(dropped(0.1)[~null], asked["label"][~null])
    assert torch.equal(dropped(0.1), dropped(0.1))
    assert torch.equal(dropped(0.0), asked["label"])
    assert (dropped(1.0) == 4).all()
    assert asked["label"].max() == 3  # what was given is left alone
