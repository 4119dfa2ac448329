"""Pictures as files: PNG with settings, animations; written whole or not at all."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError, DataError
from limner.core.files import replaced
from limner.show import read_settings, save_animation, save_png, to_images


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
