"""The pictures that come with the package."""

from __future__ import annotations

import time

import pytest
import torch

from limner.core.errors import ConfigError, DataError
from limner.data import list_packaged, load_packaged


def test_twemoji_is_complete() -> None:
    pictures = load_packaged("twemoji", 32)
    assert pictures.pixels.shape == (1865, 3, 32, 32)
    assert len(pictures.classes) == 9 and "Food & Drink" in pictures.classes
    assert torch.bincount(pictures.labels, minlength=9).min() >= 80
    assert len(set(pictures.keys)) == len(pictures)
    assert len(set(pictures.captions)) > 0.99 * len(pictures)


@pytest.mark.parametrize(("name", "count", "classes"), [("noto", 1885, 9), ("fluent", 1598, 8)])
def test_other_artists_drew_the_same_emoji(name: str, count: int, classes: int) -> None:
    """A key stands for the same emoji in every set, so splits by key agree between sets."""
    first, other = load_packaged("twemoji", 16), load_packaged(name, 16)
    assert other.pixels.shape == (count, 3, 16, 16)
    assert set(other.classes) <= set(first.classes) and len(other.classes) == classes
    assert len(set(other.keys)) == len(other)
    known = {k: (first.classes[n], c) for k, n, c in zip(first.keys, first.labels, first.captions)}
    shared = 0
    for key, label, caption in zip(other.keys, other.labels, other.captions):
        if key in known:
            assert known[key] == (other.classes[label], caption)
            shared += 1
    assert shared > 0.97 * len(other)


def test_sets_are_listed() -> None:
    assert list_packaged() == ("fluent", "noto", "twemoji")


@pytest.mark.parametrize(("name", "size"), [("twemoji", 72), ("noto", 64), ("fluent", 64)])
def test_pictures_are_drawings_and_all_different(name: str, size: int) -> None:
    """No picture is blank, none is repeated: a repeat could stand on both sides of a split."""
    pixels = load_packaged(name, size).pixels
    assert int((pixels.flatten(1) < 250).sum(1).min()) > 100
    assert len({picture.numpy().tobytes() for picture in pixels}) == len(pixels)


@pytest.mark.parametrize("name", ["twemoji", "noto", "fluent"])
def test_artists_agree_on_colours(name: str) -> None:
    pictures = load_packaged(name, 16)
    heart, frog = (pictures.keys.index(key) for key in ("2764", "1f438"))
    red, green, blue = pictures.pixels[heart, :, 8, 8].tolist()
    assert red > max(green, blue) + 80
    red, green, blue = pictures.pixels[frog].float().mean((1, 2)).tolist()
    assert green > red and green > blue


def test_captions_and_labels_belong_to_the_pictures() -> None:
    pictures = load_packaged("twemoji", 16)
    apple, leaf = (pictures.captions.index(name) for name in ("red apple", "four leaf clover"))
    assert pictures.keys[apple] == "1f34e"
    assert pictures.classes[pictures.labels[apple]] == "Food & Drink"
    red, green, _ = pictures.pixels[apple, :, 8, 8].tolist()
    assert red > green + 80
    red, green, _ = pictures.pixels[leaf].float().mean((1, 2)).tolist()
    assert green > red


def test_background_shows_only_through_transparent_places() -> None:
    white = load_packaged("twemoji", 72)
    blue = load_packaged("twemoji", 72, background=(0, 0, 255))
    face = white.keys.index("1f600")
    assert white.pixels[face, :, 0, 0].tolist() == [255, 255, 255]
    assert blue.pixels[face, :, 0, 0].tolist() == [0, 0, 255]
    assert torch.equal(white.pixels[face, :, 36, 36], blue.pixels[face, :, 36, 36])


def test_classes_are_chosen_and_numbered_in_order() -> None:
    pictures = load_packaged("twemoji", 16, classes=["Objects", "Activities"])
    assert pictures.classes == ("Objects", "Activities")
    assert torch.bincount(pictures.labels).tolist() == [262, 85]


def test_second_load_is_instant_and_first_is_quick() -> None:
    begin = time.perf_counter()
    first = load_packaged("twemoji", 33)
    assert time.perf_counter() - begin < 10  # about one second where nothing else runs
    assert load_packaged("twemoji", 33) is first


def test_mistakes_are_named() -> None:
    with pytest.raises(DataError, match="did you mean 'twemoji'"):
        load_packaged("twemojis")
    with pytest.raises(DataError, match="did you mean 'Objects'"):
        load_packaged("twemoji", 16, classes=["Object"])
    with pytest.raises(ConfigError, match="size"):
        load_packaged("twemoji", 0)
    with pytest.raises(ConfigError, match="background"):
        load_packaged("twemoji", 16, background=(0, 0, 256))
