"""Several sources as one."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import DataError
from limner.data import load_pictures, open_source
from limner.data.packaged import load_packaged


def test_pictures_stay_what_they_were_and_every_source_is_a_style() -> None:
    joined = open_source("twemoji+fluent+noto", ["Food & Drink", "Flags"])
    assert joined.styles == ("twemoji", "fluent", "noto")
    assert joined.classes == ("Food & Drink", "Flags")
    for number, style in enumerate(joined.styles):
        names = [name for name in joined.classes if name in open_source(style).classes]
        alone = load_packaged(style, 16, names)
        here = (joined.style == number).nonzero().flatten().tolist()
        assert [joined.keys[i] for i in here] == [f"{style}/{key}" for key in alone.keys]
        assert [joined.caption(i) for i in here] == list(alone.captions)
        labels = [joined.classes[label] for label in joined.labels[here]]
        assert labels == [alone.classes[label] for label in alone.labels]
        for place in (0, len(here) - 1):
            picture = joined.picture(here[place])
            assert picture.size == open_source(style, names).picture(place).size


def test_things_are_held_out_in_a_style_and_learned_in_another() -> None:
    learned, held_out = open_source("twemoji+noto+fluent").split(0.1)
    assert held_out.styles == learned.styles and len(held_out.style) == len(held_out)
    things = {key.split("/")[1] for key in learned.keys}
    known = [key.split("/")[1] in things for key in held_out.keys]
    assert sum(known) > 0.9 * len(known)
    assert not set(learned.keys) & set(held_out.keys)


def test_a_joined_set_loads_into_memory() -> None:
    pictures = load_pictures("twemoji+noto", 8, ["Activities"])
    alone = [load_packaged(name, 8, ["Activities"]).pixels for name in ("twemoji", "noto")]
    assert len(pictures) == sum(map(len, alone))
    assert torch.allclose(pictures.pixels.float(), torch.cat(alone).float(), atol=1)


def test_a_source_joined_with_itself_is_refused() -> None:
    with pytest.raises(DataError, match="different names"):
        open_source("twemoji+twemoji")


def test_an_unknown_part_is_named() -> None:
    with pytest.raises(DataError, match="twemojy"):
        open_source("noto+twemojy")
