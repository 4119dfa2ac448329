"""Surveys: what a source holds, without loading it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pytest
from PIL import Image

import limner.data.images
from limner.core.errors import ConfigError, DataError
from limner.data import load_pictures, open_source
from limner.data.folder import FolderSource
from limner.data.survey import Spread, survey
from tests.data.encoded import bomb, exif, noise, save

Write = Callable[..., Path]


def total_bytes(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.glob("*/*") if file.suffix != ".txt")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Seven pictures of two classes, of all kinds, and three that are none."""
    frames = [Image.new("RGB", (10, 10), colour) for colour in ("red", "blue")]
    files = {
        "cat/tall.png": save(noise(20, 40), "PNG"),
        "cat/copy.png": save(noise(20, 40), "PNG"),
        "cat/same_size.png": save(noise(20, 40, 1), "PNG"),
        "cat/turned.jpg": save(noise(30, 60), "JPEG", exif=exif(6)),
        "dog/grey.webp": save(noise(50, 50), "WEBP"),
        "dog/grey.png": save(Image.new("L", (80, 50)), "PNG"),
        "dog/moving.gif": save(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "dog/empty.png": b"",
        "dog/page.jpg": b"<!DOCTYPE html>",
        "dog/bomb.png": bomb(60_000),
    }
    for name, content in files.items():
        file = tmp_path / "pets" / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    (tmp_path / "pets/cat/tall.txt").write_text("a tall cat, standing\n")
    (tmp_path / "pets/dog/grey.txt").write_text("a dog")
    return tmp_path / "pets"


def test_all_that_a_folder_holds(folder: Path) -> None:
    found = survey(open_source(folder))
    assert (found.total, found.looked) == (10, 10)
    assert found.classes == {"cat": 4, "dog": 6}
    assert found.short_side == Spread(10, 20, 50)
    # 0.5 three times; 1 twice; 1.6; and 60 / 30, as the turned picture is shown
    assert found.aspect == Spread(0.5, 1.0, 2.0)
    assert found.modes == {"RGB": 5, "L": 1, "P": 1} and found.animated == 1
    assert found.captions.written == 3 and found.captions.distinct == 9
    assert found.captions.words == Spread(1, 1, 4)
    assert found.captions.examples == ("a tall cat, standing", "a dog")
    assert list(found.unreadable) == ["dog/bomb.png", "dog/empty.png", "dog/page.jpg"]
    assert found.unreadable["dog/bomb.png"].startswith("too large to be safe (")
    assert found.duplicates == (("cat/copy.png", "cat/tall.png"),)
    assert found.bytes == total_bytes(folder)


def test_its_text(folder: Path) -> None:
    lines = survey(open_source(folder)).lines()
    assert lines[:6] == [
        f"{folder}: 10 pictures, {total_bytes(folder) / 1000:.3g} KB",
        "classes: 2 (cat 4, dog 6)",
        "short side: 10 to 50 (20 in the middle) pixels",
        "width / height: 0.50 to 2.00 (1.00 in the middle)",
        "colours: 5 colour, 1 grey, 1 palette; 1 animated (the first frame counts)",
        "captions: 3 of 10, 9 different; words: 1 to 4 (1 in the middle); "
        "such as 'a tall cat, standing', 'a dog'",
    ]
    assert lines[6] == "copies of others: 1 (cat/copy.png = cat/tall.png)"
    assert lines[7].startswith("unreadable: 3 (dog/bomb.png: too large") and len(lines) == 8


def test_some_are_looked_at_evenly(tmp_path: Path, write: Write) -> None:
    for i in range(40):
        write(f"pictures/{'ab'[i // 20]}/{i:02}.png", seed=i, size=(10 + i, 80))
    source = open_source(tmp_path / "pictures")
    opened = []

    class Watched(FolderSource):
        def open(self, index: int) -> BinaryIO:
            opened.append(index)
            return super().open(index)

    found = survey(Watched(tmp_path / "pictures"), most=10)
    assert sorted(set(opened)) == list(range(0, 40, 4))
    assert (found.total, found.looked, found.classes) == (40, 10, {"a": 20, "b": 20})
    assert found.short_side == Spread(10, 28, 46)
    whole = survey(source)
    first = found.lines()[0]
    assert "40 pictures, about" in first and first.endswith("; 10 of them were looked at")
    assert found.bytes * 3 < whole.bytes < found.bytes * 5
    assert found.lines()[-1] == "captions: none; the names of files or classes stand for them"


def test_nothing_is_decoded(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def forbidden(*given: object) -> None:
        raise AssertionError("a picture was decoded")

    monkeypatch.setattr(limner.data.images, "to_rgb", forbidden)
    monkeypatch.setattr(Image.Image, "convert", forbidden)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", forbidden)
    assert survey(open_source(folder)).short_side == Spread(10, 20, 50)


def test_one_picture_with_many_captions_is_no_copy(tmp_path: Path, write: Write) -> None:
    write("a.png")
    rows = [{"file": "a.png", "caption": f"caption {i}"} for i in range(3)]
    rows += [{"file": "gone.png", "caption": "caption 0"}]
    (tmp_path / "t.jsonl").write_text("\n".join(map(json.dumps, rows)))
    found = survey(open_source(tmp_path / "t.jsonl"))
    assert found.duplicates == () and found.captions.distinct == 3
    assert found.captions.written == 4
    assert found.unreadable == {"gone.png": "No such file or directory"}


def test_nothing_that_can_be_read(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"")
    found = survey(open_source(tmp_path))
    assert found.short_side is None and found.modes == {}
    assert found.lines()[-1] == "unreadable: 1 (a.png: no picture in a format that is read)"


def test_headers_agree_with_what_is_loaded() -> None:
    found = survey(open_source("twemoji"), most=50)
    assert found.short_side == Spread(72, 72, 72) and not found.unreadable
    assert list(found.classes) == list(load_pictures("twemoji", 8).classes)
    assert "short side: 72 pixels" in found.lines()
    assert found.lines()[1].endswith("...), 85 to 359 pictures each")


def test_what_cannot_be_surveyed(tmp_path: Path, write: Write) -> None:
    write("a.png")
    with pytest.raises(ConfigError, match="most=0"):
        survey(open_source(tmp_path), most=0)
    with pytest.raises(DataError, match="has no pictures"):
        survey(open_source(tmp_path).at([]))
