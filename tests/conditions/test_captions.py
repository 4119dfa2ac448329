"""Captions by their bytes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.conditions import CaptionCondition
from limner.conditions.captions import BEGIN, FIRST_BYTE, PADDING
from limner.core.errors import ConfigError
from limner.core.request import Request

LENGTH, WIDTH, LIMIT = 3, 8, 12


@pytest.fixture
def condition() -> CaptionCondition:
    torch.manual_seed(0)
    return CaptionCondition(LENGTH, WIDTH, heads=2, limit=LIMIT).double().eval()


def spelled(condition: CaptionCondition, *captions: str) -> Tensor:
    return condition.ask(Request(len(captions), prompts=captions))["bytes"]


def read(condition: CaptionCondition, *captions: str) -> Tensor:
    with torch.no_grad():
        return condition.prefix({"bytes": spelled(condition, *captions)})


def test_a_caption_is_its_bytes_between_begin_and_padding(condition: CaptionCondition) -> None:
    (row,) = spelled(condition, "fox é").tolist()
    letters = [byte + FIRST_BYTE for byte in "fox é".encode()]
    assert len(letters) == 6
    assert row == [BEGIN, *letters, *[PADDING] * (LIMIT - 6)]


def test_every_byte_has_a_place_in_the_table(condition: CaptionCondition) -> None:
    assert condition.bytes.num_embeddings == FIRST_BYTE + 256
    assert read(condition, "\U0010ffff\x00").isfinite().all()


def test_long_captions_are_cut(condition: CaptionCondition) -> None:
    long = "a red fox in the snow"
    assert torch.equal(spelled(condition, long), spelled(condition, long[:LIMIT]))
    assert not torch.equal(spelled(condition, long), spelled(condition, long[: LIMIT - 2]))
    # cut in bytes, even within a letter
    assert int(spelled(condition, "x" + "é" * 20).ne(PADDING).sum()) == LIMIT + 1


def test_case_and_spaces_around_do_not_matter(condition: CaptionCondition) -> None:
    assert torch.equal(spelled(condition, "  Red FOX \n"), spelled(condition, "red fox"))
    assert not torch.equal(spelled(condition, "redfox"), spelled(condition, "red fox"))


def test_the_null_caption_is_the_empty_one(condition: CaptionCondition) -> None:
    asked = condition.ask(Request(2, prompts=["a fox", "snow"]))
    empty = condition.ask(Request(2, prompts=["", ""]))["bytes"]
    assert torch.equal(condition.null(asked)["bytes"], empty)
    assert torch.equal(condition.ask(Request(2))["bytes"], empty)
    assert read(condition, "").isfinite().all()


def test_letters_and_their_order_matter(condition: CaptionCondition) -> None:
    prefix = read(condition, "fox", "box", "xof", "")
    assert prefix.shape == (4, LENGTH, WIDTH)
    for i in range(4):
        for j in range(i):
            assert (prefix[i] - prefix[j]).abs().max() > 1e-6
    assert (prefix[0, 0] - prefix[0, 1]).abs().max() > 1e-6  # the queries differ
    assert condition.present({"bytes": spelled(condition, "fox", "")}).tolist() == [[True] * 3] * 2


def test_padding_and_neighbours_do_not_matter(condition: CaptionCondition) -> None:
    together = read(condition, "fox", "a red fox 12", "")
    assert (read(condition, "fox") - together[:1]).abs().max() < 1e-12
    with torch.no_grad():
        condition.bytes.weight[PADDING] = 5.0
    assert (read(condition, "fox") - together[:1]).abs().max() < 1e-12


def test_a_share_of_the_captions_is_emptied(condition: CaptionCondition) -> None:
    asked = {"bytes": spelled(condition, *["fox", "box"] * 500)}
    empty = condition.null(asked)["bytes"]
    dropped = condition.drop(asked, 0.1, torch.Generator().manual_seed(0))["bytes"]
    null = (dropped == empty).all(1)
    assert 60 < int(null.sum()) < 140
    assert torch.equal(dropped[~null], asked["bytes"][~null])
    rng = torch.Generator()
    assert torch.equal(condition.drop(asked, 0.0, rng)["bytes"], asked["bytes"])
    assert torch.equal(condition.drop(asked, 1.0, rng)["bytes"], empty)


@pytest.mark.parametrize("prompts", [None, ["a fox"]])
def test_classes_are_refused(condition: CaptionCondition, prompts: list[str] | None) -> None:
    with pytest.raises(ConfigError, match="classes are not accepted"):
        condition.ask(Request(1, labels=[0], prompts=prompts))
