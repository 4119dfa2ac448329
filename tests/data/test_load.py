"""Pictures by one name: a packaged set or a folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from limner.core.errors import DataError
from limner.data import load_packaged, load_pictures

Write = Callable[..., Path]


def test_packaged_name() -> None:
    pictures = load_pictures("twemoji", 16, classes=["Flags"])
    assert pictures.keys == load_packaged("twemoji", 16, ["Flags"]).keys


def test_folder_path(tmp_path: Path, write: Write) -> None:
    write("cats/a.png")
    write("dogs/b.png")
    assert load_pictures(str(tmp_path), 8).classes == ("cats", "dogs")
    assert load_pictures(tmp_path, 8, classes=["dogs"]).keys == ("dogs/b.png",)


def test_a_folder_with_a_packaged_name_needs_its_path(
    tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    write("twemoji/a.png")
    monkeypatch.chdir(tmp_path)
    assert len(load_pictures("twemoji", 8)) == 1865
    assert load_pictures("./twemoji", 8).keys == ("a.png",)


def test_unknown_source_lists_what_is_known() -> None:
    with pytest.raises(DataError, match="unknown picture set or folder 'twemjoi': did you mean"):
        load_pictures("twemjoi", 8)
    with pytest.raises(DataError, match="does not exist"):
        load_pictures("some/where", 8)


def test_things_that_hold_no_pictures_are_named(tmp_path: Path) -> None:
    (tmp_path / "set.zip").write_bytes(b"PK")
    for source, message in (
        (tmp_path / "set.zip", r"no set of pictures: give a folder .*\.jsonl.*\.tar"),
        ("train.jsonl", r"'train\.jsonl' does not exist"),
        ("train.tar", r"do not exist: train\.tar"),
        ("pictures.zip", "does not exist: give a folder"),
    ):
        with pytest.raises(DataError, match=message):
            load_pictures(source, 8)


def test_importing_limner_does_not_load_torch() -> None:
    program = "import sys, limner; assert limner.__version__; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0


def test_picture_files_are_sources_too(tmp_path: Path, write: Write) -> None:
    one, other = write("cats/a.png", seed=1), write("dogs/b.png", seed=2)
    alone = load_pictures(one, 8)
    assert (alone.keys, alone.classes, alone.captions) == (("a.png",), ("cats",), ("a",))
    both = load_pictures(f"{one}+{other}", 8)
    assert both.classes == ("cats", "dogs") and len(both) == 2
    assert (both.pixels[0] == alone.pixels[0]).all()
