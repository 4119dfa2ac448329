"""Sets of pictures are found wherever they lie, and refused where they do not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError, DataError
from limner.data import open_source
from limner.evaluation.load import open_pictures
from limner.evaluation.pictures import SourcePictures, check_same_size, some
from limner.metrics.frechet import fit_gaussian
from limner.metrics.references import write_reference
from limner.show import to_images

from .conftest import Held


def folder_of(path: Path, levels: Tensor) -> Path:
    path.mkdir()
    for number, image in enumerate(to_images(levels / 127.5 - 1)):
        image.save(path / f"{number:03}.png")
    return path


def test_a_folder_and_a_file_hold_the_same_pictures(tmp_path: Path, levels: Tensor) -> None:
    folder = folder_of(tmp_path / "drawn", levels[:7])
    write_reference(tmp_path / "drawn.npz", pictures=levels[:7])
    for name in (folder, tmp_path / "drawn.npz"):
        pictures = open_pictures(name)
        assert (len(pictures), pictures.size) == (7, (16, 16))
        batches = list(pictures.batches(3))
        assert [len(batch) for batch in batches] == [3, 3, 1]
        assert torch.equal(torch.cat(batches), levels[:7])


def test_real_pictures_are_cropped_and_resized_as_for_training(tmp_path: Path) -> None:
    source = open_source("twemoji", ["Flags"]).at(range(5))
    pictures = SourcePictures(source, 12)
    assert pictures.size == (12, 12)
    from limner.data import load_packaged

    expected = load_packaged("twemoji", 12, ["Flags"]).pixels[:5]
    assert torch.equal(torch.cat(list(pictures.batches(2))), expected)
    with pytest.raises(ConfigError, match="size=0"):
        SourcePictures(source, 0)


def test_pictures_of_several_sizes_are_named(tmp_path: Path, levels: Tensor) -> None:
    folder = folder_of(tmp_path / "drawn", levels[:3])
    to_images(levels[:1, :, :8] / 127.5 - 1)[0].save(folder / "zzz.png")
    with pytest.raises(DataError, match=r"zzz\.png is a picture of 8x16, and others are of 16x16"):
        list(open_pictures(folder).batches())
    assert len(torch.cat(list(open_pictures(folder, 8).batches()))) == 4


def test_unreadable_pictures_are_skipped_unless_they_are_many(
    tmp_path: Path, levels: Tensor
) -> None:
    folder = folder_of(tmp_path / "drawn", levels[:20])
    (folder / "000.png").write_bytes(b"cut off")
    assert len(torch.cat(list(open_pictures(folder).batches()))) == 19
    for number in range(1, 5):
        (folder / f"{number:03}.png").write_bytes(b"cut off")
    with pytest.raises(DataError, match="5 of 20 pictures"):
        list(open_pictures(folder).batches())
    for file in folder.iterdir():
        file.write_bytes(b"cut off")
    with pytest.raises(DataError, match="none is left"):
        open_pictures(folder)


def test_other_sizes_and_files_without_pictures_are_refused(tmp_path: Path, levels: Tensor) -> None:
    with pytest.raises(DataError, match=r"held holds pictures of 16x16, and 8x8 ones"):
        check_same_size(Held(levels[:2]), (8, 8))
    write_reference(tmp_path / "statistics.npz", fit_gaussian(torch.randn(9, 2)))
    with pytest.raises(DataError, match="statistics alone are for --reference"):
        open_pictures(tmp_path / "statistics.npz")
    with pytest.raises(DataError, match="does not exist"):
        open_pictures(tmp_path / "nowhere")


def test_some_pictures_follow_from_the_seed() -> None:
    source = open_source("twemoji")
    assert some(source, 10**6) is source
    chosen = some(source, 50)
    assert len(chosen) == 50
    assert chosen.keys == some(source, 50).keys != some(source, 50, seed=1).keys
