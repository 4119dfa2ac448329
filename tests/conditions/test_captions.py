"""Captions by their words."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.conditions import CaptionCondition
from limner.conditions.captions import ABSENT, BEGIN, pieces_of, words_of
from limner.core.errors import ConfigError
from limner.core.request import Request

LENGTH, WIDTH, LIMIT = 3, 8, 4


@pytest.fixture
def condition() -> CaptionCondition:
    torch.manual_seed(0)
    return CaptionCondition(LENGTH, WIDTH, heads=2, limit=LIMIT).double().eval()


def cut(condition: CaptionCondition, *captions: str) -> Tensor:
    return condition.ask(Request(len(captions), prompts=captions))["words"]


def read(condition: CaptionCondition, *captions: str) -> Tensor:
    with torch.no_grad():
        return condition.prefix({"words": cut(condition, *captions)})


def test_words_and_their_pieces() -> None:
    assert words_of("A red FOX, in the snow!") == ["red", "fox", "snow"]
    assert words_of("the") == ["the"]
    assert words_of(" \n") == []
    assert pieces_of("fox") == ["<fox>", "<fo", "fox", "ox>", "<fox", "fox>"]


def test_a_caption_is_begin_and_a_row_of_pieces_a_word(condition: CaptionCondition) -> None:
    rows = cut(condition, "red fox")[0]
    assert rows.shape == (LIMIT + 1, condition.PIECES)
    assert rows[0].tolist() == [BEGIN] + [ABSENT] * (condition.PIECES - 1)
    counts = (rows != ABSENT).sum(1).tolist()
    assert counts == [1, len(pieces_of("red")), len(pieces_of("fox")), 0, 0]
    assert int(rows.max()) < condition.pieces.num_embeddings


def test_any_text_is_read(condition: CaptionCondition) -> None:
    for text in ("\U0010ffff\x00", "x" * 500, "é 狐 🦊", ""):
        assert read(condition, text).isfinite().all()


def test_long_captions_are_cut(condition: CaptionCondition) -> None:
    long = "one two three four five six"
    assert torch.equal(cut(condition, long), cut(condition, "one two three four"))
    assert not torch.equal(cut(condition, long), cut(condition, "one two three"))


def test_case_and_articles_do_not_matter(condition: CaptionCondition) -> None:
    assert torch.equal(cut(condition, "  A Red FOX \n"), cut(condition, "red fox"))
    assert not torch.equal(cut(condition, "redfox"), cut(condition, "red fox"))


def test_the_null_caption_is_the_empty_one(condition: CaptionCondition) -> None:
    asked = condition.ask(Request(2, prompts=["a fox", "snow"]))
    empty = condition.ask(Request(2, prompts=["", ""]))["words"]
    assert torch.equal(condition.null(asked)["words"], empty)
    assert torch.equal(condition.ask(Request(2))["words"], empty)


def test_words_and_their_order_matter(condition: CaptionCondition) -> None:
    prefix = read(condition, "red fox", "red box", "fox red", "")
    assert prefix.shape == (4, LENGTH, WIDTH)
    for i in range(4):
        for j in range(i):
            assert (prefix[i] - prefix[j]).abs().max() > 1e-6
    assert (prefix[0, 0] - prefix[0, 1]).abs().max() > 1e-6  # the queries differ
    assert condition.present({"words": cut(condition, "fox", "")}).tolist() == [[True] * 3] * 2


def test_words_that_share_letters_resemble_each_other(condition: CaptionCondition) -> None:
    far, near, same = (
        set(pieces_of("fireworks")) & set(pieces_of(word)) for word in ("otter", "fire", "firework")
    )
    assert len(far) < len(near) < len(same)


def test_padding_and_neighbours_do_not_matter(condition: CaptionCondition) -> None:
    together = read(condition, "fox", "red fox 12", "")
    assert (read(condition, "fox") - together[:1]).abs().max() < 1e-12
    with torch.no_grad():
        condition.pieces.weight[ABSENT] = 5.0
    assert (read(condition, "fox") - together[:1]).abs().max() < 1e-12


def test_a_share_of_the_captions_is_emptied(condition: CaptionCondition) -> None:
    asked = {"words": cut(condition, *["fox", "box"] * 500)}
    empty = condition.null(asked)["words"]
    dropped = condition.drop(asked, 0.1, torch.Generator().manual_seed(0))["words"]
    null = (dropped == empty).flatten(1).all(1)
    assert 60 < int(null.sum()) < 140
    assert torch.equal(dropped[~null], asked["words"][~null])
    rng = torch.Generator()
    assert torch.equal(condition.drop(asked, 0.0, rng)["words"], asked["words"])
    assert torch.equal(condition.drop(asked, 1.0, rng)["words"], empty)


@pytest.mark.parametrize("prompts", [None, ["a fox"]])
def test_classes_are_refused(condition: CaptionCondition, prompts: list[str] | None) -> None:
    with pytest.raises(ConfigError, match="classes are not accepted"):
        condition.ask(Request(1, labels=[0], prompts=prompts))
