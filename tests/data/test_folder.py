"""Folders of real-world files: classes, captions, odd names, what is damaged or too large."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError, DataError
from limner.data import load_folder
from tests.data.encoded import bomb

Write = Callable[..., Path]


def only_picture(folder: Path, size: int = 8) -> torch.Tensor:
    """The single picture of a folder, uint8 [3, size, size]."""
    pictures = load_folder(folder, size)
    assert len(pictures) == 1
    return pictures.pixels[0]


def test_sub_folders_are_classes_in_sorted_order(tmp_path: Path, write: Write) -> None:
    for name in ("zebra/b.png", "zebra/deep/a.JPG", "apple/c.webp", "apple/d.bmp"):
        write(name)
    (tmp_path / "empty").mkdir()
    (tmp_path / "notes.txt").write_text("no picture")
    pictures = load_folder(tmp_path, 8)
    assert pictures.classes == ("apple", "zebra")
    assert pictures.keys == ("apple/c.webp", "apple/d.bmp", "zebra/b.png", "zebra/deep/a.JPG")
    assert pictures.labels.tolist() == [0, 0, 1, 1]
    assert pictures.pixels.shape == (4, 3, 8, 8)


def test_without_sub_folders_there_is_one_class(tmp_path: Path, write: Write) -> None:
    folder = tmp_path / "cats"
    write("cats/b.png", seed=1)
    write("cats/a.png", seed=2)
    pictures = load_folder(str(folder), 12)
    assert pictures.classes == ("cats",) and pictures.labels.tolist() == [0, 0]
    with Image.open(folder / "a.png") as file:
        assert np.array_equal(pictures.pixels[0].permute(1, 2, 0).numpy(), np.asarray(file))


def test_captions_come_from_text_files_or_names(tmp_path: Path, write: Write) -> None:
    write("a.png").with_suffix(".txt").write_text("A red kangaroo.\nmore\n", encoding="utf-8")
    write("big_blue-whale.png")
    assert load_folder(tmp_path, 8).captions == ("A red kangaroo.", "big blue whale")


def test_hidden_files_are_left_out(tmp_path: Path, write: Write) -> None:
    for name in ("a.png", "._a.png", ".cache/b.png"):
        write(name)
    assert load_folder(tmp_path, 8).keys == ("a.png",)


def test_pictures_in_other_formats_are_counted(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for name in ("a/1.heic", "a/2.HEIC", "b/3.tif", "b/.hidden.tif", "b/notes.pdf"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(DataError, match=r"holds no pictures .*it holds 2 \.heic, 1 \.tif: convert"):
        load_folder(tmp_path, 8)
    write("a/4.png")
    with caplog.at_level(logging.WARNING, logger="limner"):
        assert load_folder(tmp_path, 8).classes == ("a",)
    assert "2 .heic, 1 .tif left out (accepted are .png" in caplog.text


def test_loose_pictures_beside_classes_are_refused(tmp_path: Path, write: Write) -> None:
    write("loose.png")
    write("cats/a.png")
    with pytest.raises(DataError, match=r"'loose\.png', beside class folders \(cats\)"):
        load_folder(tmp_path, 8)


@pytest.mark.parametrize(("mode", "value"), [("1", 1), ("L", 200), ("RGB", (200, 200, 200))])
def test_plain_modes_become_rgb(tmp_path: Path, mode: str, value: int) -> None:
    Image.new(mode, (9, 9), value).save(tmp_path / "a.png")
    assert set(only_picture(tmp_path).flatten().tolist()) == {255 if mode == "1" else 200}


def test_centre_square_is_kept_and_resizing_averages(tmp_path: Path) -> None:
    wide = np.zeros((32, 96, 3), dtype=np.uint8)
    wide[:, :32, 0] = 255  # a red part on the left that the crop removes
    wide[:, 32:64] = 255 * (np.indices((32, 32)).sum(0) % 2)[:, :, None]  # a fine chequerboard
    Image.fromarray(wide).save(tmp_path / "wide.png")
    picture = only_picture(tmp_path, 4).float()
    assert torch.allclose(picture, torch.full_like(picture, 127.5), atol=20)


def test_few_broken_files_are_skipped_and_listed(
    tmp_path: Path, write: Write, caplog: pytest.LogCaptureFixture
) -> None:
    for i in range(18):
        write(f"{i:02}.png", seed=i)
    (tmp_path / "no-picture.jpg").write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    whole = write("cut.png", size=(64, 64)).read_bytes()
    (tmp_path / "cut.png").write_bytes(whole[: len(whole) // 2])
    with caplog.at_level(logging.WARNING, logger="limner"):
        pictures = load_folder(tmp_path, 8)
    assert len(pictures) == 18 and len(pictures.captions) == 18
    assert [line.split(":")[0] for line in pictures.skipped] == ["cut.png", "no-picture.jpg"]
    assert "2 of 20 pictures" in caplog.text and "no-picture.jpg" in caplog.text


def test_many_broken_files_are_an_error(tmp_path: Path, write: Write) -> None:
    for i in range(8):
        write(f"{i}.png")
    (tmp_path / "empty.png").touch()
    with pytest.raises(DataError, match=r"1 of 9 pictures .*empty\.png.*more than 10%"):
        load_folder(tmp_path, 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [10_000, 60_000])
def test_decompression_bombs_are_refused(tmp_path: Path, write: Write, side: int) -> None:
    for i in range(20):
        write(f"{i}.png")
    (tmp_path / "bomb.png").write_bytes(bomb(side))
    with pytest.raises(DataError, match=r"bomb\.png.* too large to be safe"):
        load_folder(tmp_path, 8)


def test_missing_and_empty_folders_name_themselves(tmp_path: Path, write: Write) -> None:
    with pytest.raises(DataError, match=r"nowhere' does not exist.*\.png, \.jpg"):
        load_folder(tmp_path / "nowhere", 8)
    with pytest.raises(DataError, match=r"holds no pictures.*\.webp"):
        load_folder(tmp_path, 8)
    with pytest.raises(DataError, match="is not a folder"):
        load_folder(write("a.png"), 8)
    with pytest.raises(ConfigError, match="size"):
        load_folder(tmp_path, 0)
