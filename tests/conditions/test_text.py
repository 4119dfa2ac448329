"""Text features as a condition."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.conditions import TextCondition
from limner.conditions.text import left_padded
from limner.core.errors import ConfigError
from limner.core.request import Request

LENGTH, FEATURES, WIDTH = 5, 6, 8


@dataclass(frozen=True)
class WordEncoder:
    """One feature vector a word: its number of letters, everywhere."""

    features: int = FEATURES
    places: int = LENGTH

    def encode(self, prompts: Sequence[str]) -> tuple[Tensor, Tensor]:
        states = torch.full((len(prompts), self.places, self.features), 9.0)
        present = torch.zeros(len(prompts), self.places, dtype=torch.bool)
        for row, prompt in enumerate(prompts):
            for place, word in enumerate(prompt.split()[: self.places]):
                states[row, place] = len(word)
                present[row, place] = True
        return states, present


@pytest.fixture
def condition() -> TextCondition:
    torch.manual_seed(0)
    return TextCondition(LENGTH, FEATURES, WIDTH).double()


def asked(condition: TextCondition, *prompts: str, encoder: WordEncoder | None = None) -> dict:
    encoder = encoder or WordEncoder()
    return condition.ask(Request(len(prompts), prompts=prompts, encoder=encoder))


def close(found: Tensor, wanted: Tensor) -> None:
    assert (found - wanted).abs().max() < 1e-12


def test_padding_moves_to_the_left_and_is_zero() -> None:
    features = 1 + torch.arange(3 * 4 * 2).reshape(3, 4, 2).float()
    present = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0], [0, 0, 0, 0]]).bool()
    padded = left_padded(features, present)
    assert torch.equal(padded["text"][0], features[0])
    assert torch.equal(padded["text"][1, 2:], features[1, :2])
    assert not padded["text"][1, :2].any()
    assert not padded["text"][2].any()
    assert torch.equal(padded["present"], present.flip(1))
    assert padded["null"].tolist() == [False] * 3


@pytest.mark.parametrize("places", [3, LENGTH, 9])
def test_features_of_any_length_are_fitted_to_the_prefix(
    condition: TextCondition, places: int
) -> None:
    prompt = "a red fox in deep white snow"
    found = asked(condition, prompt, "red", encoder=WordEncoder(places=places))
    kept = min(places, LENGTH)
    lengths = [len(word) for word in prompt.split()[:kept]]
    assert found["text"][0, LENGTH - kept :, 0].tolist() == lengths
    assert found["text"][1, :, 0].tolist() == [0] * (LENGTH - 1) + [3]
    assert found["present"].sum(1).tolist() == [kept, 1]
    assert torch.equal(condition.present(found), found["present"])


def test_null_rows_read_the_learned_features_under_the_same_padding(
    condition: TextCondition,
) -> None:
    both = asked(condition, "a red fox", "snow")
    null = condition.null(both)
    assert torch.equal(null["present"], both["present"])
    prefix = condition.prefix(null)
    assert prefix.shape == (2, LENGTH, WIDTH)
    close(prefix[0], prefix[1])
    learned = both | {"text": condition.unconditional.expand(2, -1, -1)}
    close(prefix, condition.prefix(learned))
    mixed = both | {"null": torch.tensor([True, False])}
    close(condition.prefix(mixed)[0], prefix[0])
    close(condition.prefix(mixed)[1], condition.prefix(both)[1])
    assert (prefix - condition.prefix(both)).abs().amax((1, 2)).min() > 1e-3


def test_without_a_prompt_all_learned_features_are_read(condition: TextCondition) -> None:
    nothing = condition.ask(Request(2))
    assert nothing["null"].all()
    assert nothing["present"].all()
    assert nothing["text"].shape == (2, LENGTH, FEATURES)


def test_a_share_of_the_texts_is_dropped(condition: TextCondition) -> None:
    both = asked(condition, *["a red fox", "snow"] * 500)
    dropped = condition.drop(both, 0.1, torch.Generator().manual_seed(0))
    assert 60 < int(dropped["null"].sum()) < 140
    assert torch.equal(dropped["text"], both["text"])
    again = condition.drop(condition.null(both), 0.0, torch.Generator())
    assert again["null"].all()  # what is null stays null
    assert not both["null"].any()


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request(1, prompts=["a fox"]), "text encoder: give its weights as text_encoder=PATH"),
        (Request(1, prompts=["a fox"], encoder=WordEncoder(features=4)), "4 wide.* reads 6"),
        (Request(1, labels=[1]), "classes are not accepted"),
        (Request(1, labels=[1], prompts=["a"], encoder=WordEncoder()), "classes are not accepted"),
    ],
)
def test_requests_it_cannot_meet(condition: TextCondition, request_: Request, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        condition.ask(request_)
