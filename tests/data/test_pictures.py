"""Splits, subsets and conversions of a picture set."""

from __future__ import annotations

import hashlib

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from limner.core.errors import ConfigError, DataError
from limner.data import PictureSet


def make(keys: list[str], classes: tuple[str, ...] = ("a", "b", "c")) -> PictureSet:
    """A set whose picture i has every pixel at i (modulo 256) and label i modulo the classes."""
    count = len(keys)
    values = (torch.arange(count) % 256).to(torch.uint8)
    return PictureSet(
        pixels=values[:, None, None, None].expand(count, 3, 2, 2).clone(),
        labels=torch.arange(count) % len(classes),
        classes=classes,
        captions=tuple(f"caption of {key}" for key in keys),
        keys=tuple(keys),
    )


def test_split_is_disjoint_complete_and_near_the_share() -> None:
    whole = make([f"picture {i}" for i in range(4000)])
    train, held = whole.split(0.1)
    assert not set(train.keys) & set(held.keys)
    assert set(train.keys) | set(held.keys) == set(whole.keys)
    assert 320 < len(held) < 480  # four standard deviations


def test_split_keeps_picture_label_and_caption_together() -> None:
    whole = make([f"picture {i}" for i in range(200)])
    for part in whole.split(0.3):
        for i, key in enumerate(part.keys):
            original = int(key.split()[1])
            assert int(part.pixels[i, 0, 0, 0]) == original
            assert int(part.labels[i]) == original % 3
            assert part.captions[i] == f"caption of {key}"


def test_split_does_not_depend_on_order_or_on_other_pictures() -> None:
    keys = [f"picture {i}" for i in range(300)]
    held = set(make(keys).split()[1].keys)
    assert set(make(keys[::-1]).split()[1].keys) == held
    assert set(make([*keys, "late one", "later one"]).split()[1].keys) - held <= {
        "late one",
        "later one",
    }


def test_split_is_decided_by_sha256() -> None:
    """Held out are the keys whose SHA-256 begins below the share, in every process and version."""
    held = make([str(i) for i in range(60)]).split()[1]
    for key in map(str, range(60)):
        digest = hashlib.sha256(key.encode()).hexdigest()
        assert (key in held.keys) == (digest < "19999999999a"), key
    assert held.keys == ("9", "39", "49", "51", "55")


def test_small_sets_keep_one_picture_on_each_side() -> None:
    for share in (0.01, 0.99):
        train, held = make(["one", "two"]).split(share)
        assert len(train) == len(held) == 1
    with pytest.raises(DataError, match="cannot be split"):
        make(["alone"]).split()


def test_split_of_nothing_holds_nothing_out() -> None:
    train, held = make(["one", "two"]).split(0)
    assert (len(train), len(held)) == (2, 0)
    with pytest.raises(ConfigError, match="held_out"):
        make(["one", "two"]).split(1.0)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.text(), min_size=2, max_size=30, unique=True), st.floats(0.01, 0.99))
def test_any_keys_split_into_two_parts(keys: list[str], share: float) -> None:
    train, held = make(keys).split(share)
    assert len(train) >= 1 and len(held) >= 1
    assert sorted(train.keys + held.keys) == sorted(keys)


def test_subset_takes_indices_and_masks() -> None:
    whole = make(["p", "q", "r", "s"])
    assert whole.subset([2, 0]).keys == ("r", "p")
    mask = torch.tensor([False, True, False, True])
    assert whole.subset(mask).keys == ("q", "s")
    assert len(whole.subset([])) == 0


def test_only_keeps_classes_and_renumbers_them() -> None:
    chosen = make(["p", "q", "r", "s"]).only(["c", "a"])
    assert chosen.classes == ("c", "a")
    assert chosen.keys == ("p", "r", "s")
    assert chosen.labels.tolist() == [1, 0, 1]
    with pytest.raises(DataError, match="unknown class 'd'"):
        chosen.only(["d"])
    with pytest.raises(DataError, match="different names"):
        chosen.only(["a", "a"])


def test_to_float_spans_minus_one_to_one() -> None:
    pictures = make([str(i) for i in range(256)])
    values = pictures.to_float()
    assert values.dtype == torch.float32 and values.shape == (256, 3, 2, 2)
    assert values.min() == -1 and values.max() == 1
    assert torch.equal(pictures.to_float([7, 3]), values[[7, 3]])
    back = ((values + 1) * 127.5).round().to(torch.uint8)
    assert torch.equal(back, pictures.pixels)


def test_fields_that_do_not_fit_are_refused() -> None:
    good = make(["p", "q"])
    with pytest.raises(DataError, match="uint8"):
        PictureSet(good.to_float(), good.labels, good.classes, good.captions, good.keys)
    with pytest.raises(DataError, match="labels"):
        PictureSet(good.pixels, good.labels[:1], good.classes, good.captions, good.keys)
    with pytest.raises(DataError, match="captions"):
        PictureSet(good.pixels, good.labels, good.classes, ("one",), good.keys)
    with pytest.raises(DataError, match="outside"):
        PictureSet(good.pixels, good.labels + 2, good.classes, good.captions, good.keys)
