"""Three ways of resizing a row of pixels, worked out by hand."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.layers.resize import resize


def row(*levels: int) -> torch.Tensor:
    return torch.tensor(levels, dtype=torch.uint8).reshape(1, 1, 1, -1)


@pytest.mark.parametrize(
    ("kind", "wanted"),
    [
        ("tf1", [0, 100, 200, 200]),
        ("halfpixel", [0, 50, 150, 200]),
        ("antialias", [0, 50, 150, 200]),
    ],
)
def test_twice_the_size(kind, wanted) -> None:  # type: ignore[no-untyped-def]
    pixels = row(0, 200).expand(1, 3, 2, 2)
    assert resize(pixels, (2, 4), kind)[0, 1, 1].tolist() == wanted
    assert resize(pixels.transpose(2, 3), (4, 2), kind)[0, 1, :, 1].tolist() == wanted


@pytest.mark.parametrize(
    ("kind", "wanted"), [("tf1", [0, 40]), ("halfpixel", [15, 55]), ("antialias", None)]
)
def test_half_the_size(kind, wanted) -> None:  # type: ignore[no-untyped-def]
    made = resize(row(0, 30, 40, 70), (1, 2), kind).flatten().tolist()
    if wanted is None:  # neighbours further away count too
        assert 15 < made[0] < 35 < made[1] < 55
    else:
        assert made == wanted


def test_the_same_size_changes_nothing_and_bad_settings_are_named() -> None:
    pixels = row(3, 1, 4, 1, 5)
    for kind in ("tf1", "halfpixel", "antialias"):
        assert torch.equal(resize(pixels, (1, 5), kind), pixels.float())
    with pytest.raises(ConfigError, match="kind='cubic'"):
        resize(pixels, (1, 5), "cubic")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="size"):
        resize(pixels, (0, 5))
