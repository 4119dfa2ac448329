"""Crops: the published geometry, and chance that comes from the generator alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.data import (
    AnyViews,
    CentreAndMirror,
    CentreCrop,
    RandomCrop,
    Shifted,
    TenCrop,
)
from limner.data.images import to_levels, to_square


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(width: int, height: int) -> Image.Image:
    """Red is the column and green the row, so that a pixel says where it comes from."""
    rows, columns = np.indices((height, width))
    return Image.fromarray(np.stack([columns, rows, 0 * rows], axis=-1).astype(np.uint8))


def test_ten_crop_takes_corners_and_centre_then_mirrored() -> None:
    """A picture that is 44 = int(40 x 1.1) high is not resized: pixels can be followed."""
    views = TenCrop(40)(ramp(60, 44), rng())
    assert views.shape == (10, 3, 40, 40) and views.dtype == torch.uint8
    # The centre square begins at column 8; left and top of each crop follow from its first pixel.
    left, top = views[:5, 0, 0, 0] - 8, views[:5, 1, 0, 0]
    assert left.tolist() == [0, 4, 0, 4, 2] and top.tolist() == [0, 0, 4, 4, 2]
    assert views[5:, 0, 0, 0].tolist() == [51, 47, 51, 47, 49]
    assert views[5].equal(views[1].flip(-1)) and views[9].equal(views[4].flip(-1))


def test_centre_and_mirror() -> None:
    views = CentreAndMirror(20)(ramp(30, 20), rng())
    assert views[0, 0, 0].tolist() == list(range(5, 25))
    assert views[1].equal(views[0].flip(-1))


def test_large_pictures_are_halved_before_they_are_resized() -> None:
    """Averaging twice by two is exact on a fine chequerboard, which a bicubic filter would miss."""
    board = np.repeat(255 * (np.indices((64, 64)).sum(0) % 2)[:, :, None], 3, 2).astype(np.uint8)
    view = CentreAndMirror(16)(Image.fromarray(board), rng())[0].float()
    assert view.min() == view.max() and 127 <= view.min() <= 128


def test_random_crop_of_a_resized_picture() -> None:
    crop = RandomCrop(16)
    picture = ramp(27, 18)  # the short side is 18 = 1.125 x 16 already
    generator = rng(1)
    views = torch.cat([crop(picture, generator) for _ in range(200)])
    assert set(views[:, 0, 0, 0].tolist()) == set(range(12))
    assert set(views[:, 1, 0, 0].tolist()) == {0, 1, 2}
    assert views[:, 0, 0, 15].equal(views[:, 0, 0, 0] + 15)
    assert crop(picture, rng(1)).equal(views[:1])


def test_random_crop_flips_and_varies_in_size() -> None:
    crop = RandomCrop(16, smallest=1, largest=1.25, flip=0.5)
    generator = rng(2)
    views = torch.cat([crop(ramp(160, 160), generator) for _ in range(100)]).int()
    spans = views[:, 0, 0, 15] - views[:, 0, 0, 0]
    assert 25 < (spans < 0).sum() < 75
    assert spans.abs().min() < 125 < 145 < spans.abs().max()


def test_random_crops_of_one_picture_differ() -> None:
    """The first of several is the one that a single crop would be."""
    picture = ramp(60, 40)
    views = RandomCrop(16, 1, 1.5, flip=0.5, count=8)(picture, rng(3))
    assert views.shape == (8, 3, 16, 16)
    assert len({view.numpy().tobytes() for view in views}) == 8
    assert views[:1].equal(RandomCrop(16, 1, 1.5, flip=0.5)(picture, rng(3)))


def test_shifted_is_the_square_and_moved_ones() -> None:
    picture = ramp(48, 32)  # the centre square begins at column 8 and is not resized
    views = Shifted(32, shift=3, flip=0.5, count=400)(picture, rng(4))
    assert views.shape == (400, 3, 32, 32) and views.dtype == torch.uint8
    assert views[0].equal(CentreCrop(32)(picture, rng())[0])
    moved = views[1:, :, 16, 16].int()
    mirrored = views[1:, 0, 0, 20] < views[1:, 0, 0, 10]
    assert 130 < mirrored.sum() < 270
    columns = torch.where(mirrored, 8 + 31 - 16, 8 + 16) - moved[:, 0]
    columns = torch.where(mirrored, -columns, columns)
    assert set(columns.tolist()) == set(range(-3, 4))
    assert set((16 - moved[:, 1]).tolist()) == set(range(-3, 4))


def test_shifted_without_moves_repeats_the_square() -> None:
    generator = rng(5)
    state = generator.get_state()
    views = Shifted(16, count=3)(ramp(20, 30), generator)
    assert views.equal(views[:1].repeat(3, 1, 1, 1))
    assert Shifted(16, shift=2, flip=0.5)(ramp(20, 30), generator).equal(views[:1])
    assert torch.equal(generator.get_state(), state)


def test_small_pictures_are_enlarged() -> None:
    for views in (
        CentreCrop(32),
        RandomCrop(32),
        TenCrop(32),
        CentreAndMirror(32),
        Shifted(32, 2, 0.5, 3),
    ):
        assert views(ramp(5, 3), rng()).shape == (views.views, 3, 32, 32)


def test_centre_crop_is_what_load_pictures_gives() -> None:
    picture = ramp(50, 31)
    assert CentreCrop(16)(picture, rng())[0].equal(to_levels(to_square(picture, 16)))


def test_bad_values_are_named() -> None:
    for make, field in (
        (lambda: TenCrop(0), "size"),
        (lambda: TenCrop(8, 0.9), "crop_range"),
        (lambda: RandomCrop(8, 0.5), "smallest"),
        (lambda: RandomCrop(8, 1.2, 1.1), "largest"),
        (lambda: RandomCrop(8, flip=2), "flip"),
        (lambda: RandomCrop(8, count=0), "count"),
        (lambda: Shifted(8, shift=-1), "shift"),
        (lambda: Shifted(8, flip=1.5), "flip"),
        (lambda: Shifted(8, count=0), "count"),
        (lambda: Shifted(0), "size"),
    ):
        with pytest.raises(ConfigError, match=field):
            make()


@dataclass(frozen=True)
class Recipe:
    views: AnyViews


@pytest.mark.parametrize(
    ("values", "views"),
    [
        ({"kind": "centre", "size": 8}, CentreCrop(8)),
        ({"kind": "random", "size": 8, "flip": 0.5, "count": 2}, RandomCrop(8, flip=0.5, count=2)),
        ({"kind": "ten", "size": 8, "crop_range": 1.05}, TenCrop(8, 1.05)),
        ({"kind": "mirror", "size": 8}, CentreAndMirror(8)),
        ({"kind": "shifted", "size": 8, "shift": 1, "count": 4}, Shifted(8, 1, count=4)),
    ],
)
def test_views_are_read_by_their_kind(values: dict[str, Any], views: AnyViews) -> None:
    read = from_dict(Recipe, {"views": values}).views
    assert read == views and type(read) is type(views)
    assert from_dict(Recipe, {"views": to_dict(views)}).views == views
    with pytest.raises(ConfigError, match=r"unknown field of views 'angle'"):
        from_dict(Recipe, {"views": {**values, "angle": 3}})


def test_views_of_an_unknown_kind_are_named() -> None:
    with pytest.raises(ConfigError, match=r"'tne'"):
        from_dict(Recipe, {"views": {"kind": "tne", "size": 8}})


def test_all_that_decides_views_stands_in_their_repr() -> None:
    """By which a token cache is known."""
    alike = (
        CentreCrop(8),
        CentreAndMirror(8),
        TenCrop(8),
        TenCrop(8, 1.2),
        RandomCrop(8),
        RandomCrop(8, count=2),
        RandomCrop(8, flip=0.5),
        Shifted(8),
        Shifted(8, count=2),
        Shifted(8, 1, count=2),
    )
    assert len({repr(views) for views in alike}) == len(alike)
