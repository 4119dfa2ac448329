"""Prompts as ids of a decoder's own vocabulary."""

import pytest
import torch

from limner.conditions.written import BYTES, WrittenCondition
from limner.core.errors import ConfigError
from limner.core.request import Request

BYTEWISE = WrittenCondition(length=6, vocabulary=BYTES + 1, begin=BYTES, start=999)


class Tokenizer:
    """Every word is its length."""

    def encode(self, prompts):
        rows = [[len(word) for word in prompt.split()] for prompt in prompts]
        longest = max(map(len, rows))
        ids = torch.tensor([row + [0] * (longest - len(row)) for row in rows])
        return ids, torch.tensor([[i < len(row) for i in range(longest)] for row in rows])


def words(condition, row):
    return condition["ids"][row][condition["present"][row]].tolist()


def test_a_prompt_is_its_bytes_between_begin_and_start():
    asked = BYTEWISE.ask(Request(3, prompts=["ab", "", "abcdefg"]))
    assert words(asked, 0) == [BYTES, ord("a"), ord("b"), 999]
    assert words(asked, 1) == [BYTES, 999]
    assert words(asked, 2) == [BYTES, *b"abcd", 999]  # cut at its end
    assert asked["present"][:, -1].all()  # padded on the left


def test_without_prompts_the_empty_one_is_asked_for():
    asked, empty = BYTEWISE.ask(Request(1)), BYTEWISE.ask(Request(1, prompts=[""]))
    assert all(torch.equal(asked[name], empty[name]) for name in asked)


def test_a_tokenizer_takes_the_place_of_bytes():
    written = WrittenCondition(length=6, vocabulary=9, begin=0, start=10)
    asked = written.ask(Request(2, prompts=["a red fox", "sun"], encoder=Tokenizer()))
    assert [words(asked, row) for row in (0, 1)] == [[0, 1, 3, 3, 10], [0, 3, 10]]
    with pytest.raises(ConfigError, match="prompt ids"):
        written.ask(Request(1, prompts=["incomprehensible"], encoder=Tokenizer()))
    with pytest.raises(ConfigError, match="text_vocabulary=9"):
        written.ask(Request(1, prompts=["a"]))


def test_features_are_no_ids():
    class Features:
        def encode(self, prompts):
            return torch.zeros(len(prompts), 4, 8), torch.ones(len(prompts), 4, dtype=torch.bool)

    with pytest.raises(ConfigError, match="text_encoder"):
        BYTEWISE.ask(Request(1, prompts=["a"], encoder=Features()))


def test_a_share_of_prompts_is_emptied():
    asked = BYTEWISE.ask(Request(200, prompts=["abc"] * 200))
    dropped = BYTEWISE.drop(asked, 0.25, torch.Generator().manual_seed(0))
    emptied = dropped["present"].sum(1) == 2
    assert 30 < int(emptied.sum()) < 70
    assert torch.equal(dropped["ids"][~emptied], asked["ids"][~emptied])
