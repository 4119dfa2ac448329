"""Texts as features and one vector."""

import pytest
import torch

from limner.conditions.pooled_text import PooledText
from limner.core.errors import ConfigError
from limner.core.request import Request


class Encoder:
    """Features are the number of letters; so is the vector."""

    def __init__(self, width=3, vector=4):
        self.width, self.vector = width, vector

    def encode(self, prompts):
        lengths = torch.tensor([float(len(prompt)) for prompt in prompts])
        features = lengths[:, None, None].expand(-1, 2, self.width)
        return features, torch.ones(len(prompts), 2, dtype=torch.bool)

    def pooled(self, prompts):
        return torch.tensor([float(len(prompt)) for prompt in prompts])[:, None].expand(
            -1, self.vector
        )


CONDITION = PooledText(length=2, features=3, width=4)


def test_texts_stand_beside_the_empty_one():
    asked = CONDITION.ask(Request(2, prompts=["abc", "a"], encoder=Encoder()))
    assert asked["text"].shape == (2, 2, 3) and asked["pooled"][:, 0].tolist() == [3, 1]
    null = CONDITION.null(asked)
    assert torch.all(null["text"] == 0) and torch.all(null["pooled"] == 0)


def test_a_negative_text_takes_the_place_of_the_empty_one():
    asked = CONDITION.ask(Request(1, prompts=["abc"], encoder=Encoder()))
    asked |= {"null_text": torch.full((1, 2, 3), 7.0), "null_pooled": torch.full((1, 4), 7.0)}
    assert torch.all(CONDITION.null(asked)["text"] == 7)


def test_text_and_vector_are_dropped_together():
    asked = CONDITION.ask(Request(200, prompts=["abc"] * 200, encoder=Encoder()))
    dropped = CONDITION.drop(asked, 0.25, torch.Generator().manual_seed(0))
    gone = dropped["pooled"][:, 0] == 0
    assert 30 < int(gone.sum()) < 70
    assert torch.equal(gone, (dropped["text"] == 0).all((1, 2)))


@pytest.mark.parametrize(
    ("encoder", "message"),
    [
        (None, "one vector a text"),
        (Encoder(width=5), "5 wide"),
        (Encoder(vector=6), "vectors are 6 wide"),
    ],
)
def test_encoders_that_do_not_fit_are_refused(encoder, message):
    with pytest.raises(ConfigError, match=message):
        CONDITION.ask(Request(1, prompts=["a"], encoder=encoder))
