"""A caption, a style and a class together."""

from __future__ import annotations

import pytest
import torch

from limner.conditions import DescriptionCondition, DescriptionVector
from limner.conditions.descriptions import CLASS_ABSENT, STYLE_ABSENT
from limner.core.errors import ConfigError
from limner.core.request import Request
from limner.core.row import Condition

CLASSES, STYLES = 5, 3


@pytest.fixture
def condition() -> DescriptionCondition:
    torch.manual_seed(0)
    return DescriptionCondition(CLASSES, STYLES, length=4, width=8).double().eval()


def ask(condition: DescriptionCondition, count: int = 1) -> Condition:
    return condition.ask(
        Request(count, labels=[1] * count, prompts=["fox"] * count, styles=[2] * count)
    )


def test_each_part_has_its_places(condition: DescriptionCondition) -> None:
    whole = condition.prefix(ask(condition))
    assert whole.shape == (1, 6, 8) == (1, condition.length, 8)
    changed = {
        "labels": ([0], {0}),
        "styles": ([0], {1}),
        "prompts": (["box"], {2, 3}),  # the caption, and its word
    }
    for name, (value, places) in changed.items():
        asked = {"labels": [1], "prompts": ["fox"], "styles": [2], name: value}
        other = condition.prefix(condition.ask(Request(1, **asked)))
        differs = (other != whole).any(2)[0].nonzero().flatten().tolist()
        assert set(differs) == places


def test_one_vector_holds_every_part() -> None:
    torch.manual_seed(0)
    vector = DescriptionVector(CLASSES, STYLES, width=8, words=3).double().eval()
    assert (vector.by, vector.length) == (("prompt", "style", "class"), 1)
    asked = {"labels": [1], "prompts": ["red fox"], "styles": [2]}
    whole = vector.prefix(vector.ask(Request(1, **asked)))
    assert whole.shape == (1, 1, 8) and vector.present(vector.ask(Request(1, **asked))).all()
    label, style = vector.label.table.weight[1], vector.style.table.weight[2]
    caption = vector.caption.prefix(vector.caption.ask(Request(1, prompts=["red fox"])))
    torch.testing.assert_close(whole[0, 0], label + style + caption[0].sum(0))
    others = ({"labels": [0]}, {"prompts": ["red box"]}, {"styles": [1]})
    for other in others:
        changed = vector.prefix(vector.ask(Request(1, **{**asked, **other})))
        assert not torch.equal(changed, whole)


def test_what_is_not_said_is_null(condition: DescriptionCondition) -> None:
    null = condition.null(ask(condition))
    nothing = condition.ask(Request(1))
    assert null.keys() == nothing.keys()
    assert all(torch.equal(null[name], nothing[name]) for name in null)
    alone = condition.ask(Request(1, prompts=["fox"]))
    assert alone["label"].item() == CLASSES and alone["style"].item() == STYLES


def test_parts_are_left_out_in_training(condition: DescriptionCondition) -> None:
    count, share = 4000, 0.1
    asked = ask(condition, count)
    dropped = condition.drop(asked, share, torch.Generator().manual_seed(0))
    null = condition.null(asked)
    absent = {
        name: (dropped[name] == null[name]).flatten(1).all(1)
        if dropped[name].ndim > 1
        else dropped[name] == null[name]
        for name in null
    }
    expected = {
        "words": share,
        "style": share + (1 - share) * STYLE_ABSENT,
        "label": share + (1 - share) * CLASS_ABSENT,
    }
    for name, wanted in expected.items():
        spread = (wanted * (1 - wanted) / count) ** 0.5
        assert abs(absent[name].double().mean() - wanted) < 5 * spread
    whole = absent["words"]
    assert absent["style"][whole].all() and absent["label"][whole].all()


@pytest.mark.parametrize(
    ("asked", "message"),
    [({"styles": [3]}, "style=3"), ({"labels": [5]}, "class=5"), ({"styles": [-1]}, "style=-1")],
)
def test_what_does_not_exist_is_refused(
    condition: DescriptionCondition, asked: dict[str, list[int]], message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        condition.ask(Request(1, **asked))
