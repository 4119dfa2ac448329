"""Crops: the published geometry, and chance that comes from the generator alone."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError
from limner.data import CentreAndMirror, CentreCrop, RandomCrop, TenCrop
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


def test_small_pictures_are_enlarged() -> None:
    for views in (CentreCrop(32), RandomCrop(32), TenCrop(32), CentreAndMirror(32)):
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
    ):
        with pytest.raises(ConfigError, match=field):
            make()
