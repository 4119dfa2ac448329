"""Edits of pictures by a mask."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.row import Event
from limner.decoding.loop import Cancelled
from limner.pipeline import Pipeline
from tests.pipeline.small import SIZE, TOKENS, ids


@pytest.fixture
def corner() -> Tensor:
    """A mask that touches the tokens 5, 6, 9 and 10 of 4 x 4, some only by a pixel."""
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[8:17, 9:17] = True
    return mask


def test_an_edit_holds_what_the_mask_leaves(
    pipeline: Pipeline, pictures: Tensor, corner: Tensor
) -> None:
    given = pipeline.tokenizer.encode(pictures[:1]).ids[0, :, 0]
    redrawn = torch.zeros(TOKENS, dtype=torch.bool)
    redrawn[[5, 6, 9, 10]] = True
    result = pipeline.edit(pictures[0], corner, classes=["Fox"] * 4, seed=1, guidance=2.0)
    assert result.pictures.shape == (4, 3, SIZE, SIZE)
    assert torch.equal(ids(result)[:, ~redrawn], given[~redrawn].expand(4, -1))
    assert len(ids(result)[:, redrawn].unique(dim=0)) == 4
    assert (ids(result)[:, redrawn] != given[redrawn]).any(0).all()
    again = pipeline.edit(pictures[0], corner, classes=["Fox"] * 4, seed=1, guidance=2.0)
    assert torch.equal(again.pictures, result.pictures)
    assert result.tokens.known.all()
    assert [each["seed"] for each in result.settings] == [1, 2, 3, 4]


def test_an_edit_reads_what_it_holds(pipeline: Pipeline, pictures: Tensor) -> None:
    mask = torch.zeros(SIZE, SIZE, dtype=torch.bool)
    mask[24:] = True
    edits = [ids(pipeline.edit(picture, mask, classes=[0], seed=3)) for picture in pictures[:4]]
    assert len(torch.cat(edits)[:, :12].unique(dim=0)) == 4
    assert len(torch.cat(edits)[:, 12:].unique(dim=0)) > 1


def test_an_edit_takes_images(pipeline: Pipeline, pictures: Tensor, corner: Tensor) -> None:
    picture = Image.fromarray(((pictures[2] + 1) * 127.5).round().byte().permute(1, 2, 0).numpy())
    mask = Image.fromarray((corner * 255).byte().numpy())
    found = pipeline.edit(picture, mask, classes=[1], seed=2)
    assert torch.equal(ids(found), ids(pipeline.edit(pictures[2], corner, classes=[1], seed=2)))
    tall = Image.new("RGB", (16, 48), "red")
    half = Image.new("1", (16, 48))
    half.paste(1, (0, 0, 16, 24))
    assert pipeline.edit(tall, half).pictures.shape == (1, 3, 48, 16)


def test_an_edit_can_be_cancelled(pipeline: Pipeline, pictures: Tensor, corner: Tensor) -> None:
    def stop(events: list[Event]) -> None:
        if events[0].step.index == 5:
            raise Cancelled

    result = pipeline.edit(pictures[0], corner, classes=[0], hooks=[stop])
    unknown = (~result.tokens.known[0]).nonzero().flatten().tolist()
    assert unknown == [6, 9, 10]


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (torch.ones(16, 32), "mask='16x32' .* 32x32"),
        (torch.ones(1, 32, 32), "mask='1x32x32' .* 32x32"),
        (torch.zeros(32, 32), "mask is empty"),
        (torch.ones(32, 32), "mask is full"),
        (Image.new("L", (32, 16), 255), "mask='16x32' .* 32x32"),
        (Image.new("L", (32, 32)), "mask is empty"),
    ],
)
def test_masks_that_cannot_be_used(
    pipeline: Pipeline, pictures: Tensor, mask: Any, message: str
) -> None:
    with pytest.raises(ConfigError, match=message):
        pipeline.edit(pictures[0], mask, classes=[0])


def test_a_picture_whose_size_has_no_tokens_cannot_be_edited(pipeline: Pipeline) -> None:
    mask = torch.zeros(20, 32)
    mask[0] = 1
    with pytest.raises(ConfigError, match=r"size='20x32' .* multiples of 8"):
        pipeline.edit(torch.zeros(3, 20, 32), mask, classes=[0])
