"""Pictures as files: PNG with settings, animations; written whole or not at all."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError, DataError
from limner.core.files import remove_leftovers, replaced
from limner.show import read_settings, save_animation, save_png, to_images
from tests.disks import file_limit, small_disk


def noise(width: int, height: int, mode: str = "RGB", seed: int = 0) -> Image.Image:
    bands = {"RGB": (3,), "L": (), "RGBA": (4,)}[mode]
    levels = np.random.default_rng(seed).integers(0, 256, (height, width, *bands), dtype=np.uint8)
    return Image.fromarray(levels)


def test_every_level_of_a_picture_survives_the_way_to_pil_and_back() -> None:
    levels = torch.arange(256).repeat(3).reshape(1, 3, 16, 16)
    (image,) = to_images(levels / 127.5 - 1)
    assert torch.equal(torch.from_numpy(np.array(image)).movedim(-1, 0), levels[0].byte())


def test_tensors_become_images() -> None:
    grey, colour = (
        to_images(torch.zeros(1, 1, 4, 6))[0],
        to_images(torch.full((1, 3, 4, 6), 9.0))[0],
    )
    assert (grey.mode, grey.size, grey.getpixel((0, 0))) == ("L", (6, 4), 128)
    assert (colour.mode, colour.getpixel((5, 3))) == ("RGB", (255, 255, 255))
    with pytest.raises(DataError, match=r"\[1, 2, 4, 4\]"):
        to_images(torch.zeros(1, 2, 4, 4))


@pytest.mark.parametrize("mode", ["RGB", "L", "RGBA"])
def test_png_keeps_pixels_and_settings(tmp_path: Path, mode: str) -> None:
    image = noise(7, 5, mode)
    settings = {"class": "Tiere & Natur ☃", "seed": 2**63, "top_p": 0.1 + 0.2, "steps": None}
    path = tmp_path / "new" / "a.png"
    save_png(image, path, settings)
    assert read_settings(path) == settings
    with Image.open(path) as read:
        assert (read.mode, read.tobytes()) == (mode, image.tobytes())
    assert [file.name for file in path.parent.iterdir()] == ["a.png"]


def test_files_without_settings(tmp_path: Path) -> None:
    save_png(noise(4, 4), tmp_path / "plain.png")
    with pytest.raises(DataError, match="carries no settings"):
        read_settings(tmp_path / "plain.png")
    noise(4, 4).save(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="no sound PNG"):
        read_settings(tmp_path / "a.jpg")
    with pytest.raises(DataError, match="No such file"):
        read_settings(tmp_path / "missing.png")


def test_a_file_is_written_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(ZeroDivisionError), replaced(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]
    with pytest.raises(DataError, match="cannot be written"), replaced(path / "below") as temporary:
        temporary.write_text("x")


def is_folder(descriptor: int) -> bool:
    return stat.S_ISDIR(os.fstat(descriptor).st_mode)


def write_array(path: Path) -> None:
    with replaced(path) as temporary:
        temporary.write_bytes(bytes(500_000))


def write_png(path: Path) -> None:
    save_png(noise(400, 400), path)


@pytest.mark.parametrize("write", [write_array, write_png])
def test_a_full_disk_leaves_the_old_file(tmp_path: Path, write: Callable[[Path], None]) -> None:
    with small_disk(tmp_path, 128 * 1024):
        path = tmp_path / "a.png"
        path.write_text("old")
        with pytest.raises(DataError, match=r"a\.png cannot be written: No space left on device"):
            write(path)
        assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("write", [write_array, write_png])
def test_a_file_that_grows_too_large_leaves_the_old_one(
    tmp_path: Path, write: Callable[[Path], None]
) -> None:
    path = tmp_path / "a.png"
    path.write_text("old")
    with file_limit(10_000), pytest.raises(DataError, match=r"a\.png cannot be written: File too"):
        write(path)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]


def test_a_file_is_on_the_disk_before_it_takes_its_place_and_the_folder_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, events = tmp_path / "new" / "a.txt", []
    flush, rename = os.fsync, os.replace

    def flushed(descriptor: int) -> None:
        events.append("folder" if is_folder(descriptor) else "file")
        flush(descriptor)

    def renamed(source: Path, target: Path) -> None:
        events.append("rename")
        rename(source, target)

    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(os, "replace", renamed)
    with replaced(path) as temporary:
        temporary.write_text("new")
        assert events == []
    assert path.read_text() == "new"
    assert events == ["file", "rename", *(["folder"] if os.name == "posix" else [])]


def test_folders_that_cannot_be_flushed_do_no_harm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some network drives refuse: the file is in place all the same."""
    flush = os.fsync

    def refused(descriptor: int) -> None:
        if is_folder(descriptor):
            raise OSError(22, "Invalid argument")
        flush(descriptor)

    monkeypatch.setattr(os, "fsync", refused)
    with replaced(tmp_path / "a.txt") as temporary:
        temporary.write_text("new")
    assert (tmp_path / "a.txt").read_text() == "new"


def test_files_with_rights_to_read_only_are_flushed_and_replaced(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    for text in ("old", "new"):
        with replaced(path) as temporary:
            temporary.write_text(text)
            temporary.chmod(0o444)
    assert path.read_text() == "new"


@pytest.mark.parametrize("name", ["ü" * 120 + ".json", "x" * 250 + ".png", "a b#c%20[1].txt"])
def test_names_may_be_long_and_odd(tmp_path: Path, name: str) -> None:
    with replaced(tmp_path / name) as temporary:
        temporary.write_text("new")
        assert temporary.suffix == Path(name).suffix
    assert [file.name for file in tmp_path.iterdir()] == [name]


def test_leftovers_of_a_killed_writer_are_removed_and_nothing_else(tmp_path: Path) -> None:
    program = (
        "import os, sys; from limner.core.files import replaced\n"
        "with replaced(sys.argv[1]) as temporary: temporary.write_text('half'); os._exit(9)"
    )
    path = tmp_path / "state.json"
    path.write_text("old")
    assert subprocess.run([sys.executable, "-c", program, str(path)]).returncode == 9
    others = {path, tmp_path / ".state.settings.json", tmp_path / ".other.0123abcd.json"}
    for other in others:
        other.touch()
    assert len(list(tmp_path.iterdir())) == 4
    remove_leftovers(path)
    assert set(tmp_path.iterdir()) == others and path.read_text() == "old"
    remove_leftovers(tmp_path / "nowhere" / "a.json")


@pytest.mark.parametrize("suffix", [".gif", ".webp"])
def test_an_animation_has_all_frames_and_holds_the_last(tmp_path: Path, suffix: str) -> None:
    path = tmp_path / f"film{suffix}"
    frames = torch.linspace(-1, 1, 5).reshape(5, 1, 1, 1).expand(5, 3, 8, 8)
    save_animation(frames, path, seconds=1.0, hold=2.0)
    durations, greys = [], []
    with Image.open(path) as film:
        for index in range(film.n_frames):
            film.seek(index)
            film.load()
            durations.append(film.info["duration"])
            greys.append(film.convert("L").getpixel((4, 4)))
    assert durations == [200, 200, 200, 200, 2000]
    assert np.allclose(greys, [0, 64, 128, 191, 255], atol=3)


def test_animations_that_cannot_be_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"\.gif or \.webp"):
        save_animation([noise(4, 4)], tmp_path / "film.mp4")
    with pytest.raises(DataError, match="at least one frame"):
        save_animation([], tmp_path / "film.gif")
    with pytest.raises(DataError, match="of one size"):
        save_animation([noise(4, 4), noise(5, 4)], tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []
