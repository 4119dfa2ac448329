"""Clips from films in folders, and moving drawings."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError, DataError, MissingExtra
from limner.data import (
    CachePlan,
    CentreCrop,
    FilmSource,
    MovingDrawings,
    RandomCrop,
    TokenCache,
    Window,
    build_token_cache,
    list_moving,
    open_clips,
)
from limner.data.augment import Augment
from limner.data.films import open_film
from limner.data.source import collect
from limner.data.unreadable import Unreadable
from limner.show import save_clip


def grey(level: int, size: tuple[int, int] = (12, 12)) -> Image.Image:
    return Image.new("RGB", size, (level, level, level))


def levels_of(source: Any, index: int, size: int = 4) -> list[int]:
    """The mean level of every frame of a clip."""
    seen = source.seen(index, CentreCrop(size), torch.Generator())
    assert seen.shape[:1] == (1,) and seen.dtype == torch.uint8
    return [round(float(frame.float().mean())) for frame in seen[0]]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Frames of rising levels as a folder of pictures, a GIF and an MP4 file, in two classes."""
    frames = tmp_path / "films" / "rising" / "pictures"
    frames.mkdir(parents=True)
    for number in range(11):
        grey(20 * number).save(frames / f"frame{number}.png")
    (tmp_path / "films" / "rising" / "pictures.txt").write_text("It gets light.\nAnd more.")
    images = [grey(20 * number) for number in range(11)]
    gif = tmp_path / "films" / "rising" / "a_gif.gif"
    images[0].save(gif, save_all=True, append_images=images[1:], duration=40)
    (tmp_path / "films" / "falling").mkdir()
    save_clip([grey(20 * n, (16, 12)) for n in range(10, -1, -1)], tmp_path / "films/falling/v.mp4")
    return tmp_path / "films"


def test_every_kind_of_film_is_cut_into_clips(folder: Path) -> None:
    source = FilmSource(folder, Window(frames=2, stride=3))  # spans of 4 frames, 2 of 11 fit
    assert source.classes == ("falling", "rising")
    assert source.keys == (
        *("falling/v.mp4", "falling/v.mp4"),
        *("rising/a_gif.gif", "rising/a_gif.gif"),
        *("rising/pictures", "rising/pictures"),
    )
    assert source.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert levels_of(source, 2) == levels_of(source, 4) == [0, 60]  # frame 10 is not before 2
    assert levels_of(source, 3) == levels_of(source, 5) == [80, 140]
    assert levels_of(source, 0) == pytest.approx([200, 140], abs=3)  # videos lose a little
    assert levels_of(source, 1) == pytest.approx([120, 60], abs=3)
    assert source.caption(4) == "It gets light." and source.caption(2) == "a gif"
    with Image.open(source.open(5)) as first:
        assert first.getpixel((0, 0)) == (80, 80, 80)


def test_frames_that_stand_still_are_counted(tmp_path: Path) -> None:
    save_clip([grey(level) for level in (0, 0, 0, 80, 80, 160)], tmp_path / "still.gif")
    source = FilmSource(tmp_path, Window(6))
    assert levels_of(source, 0) == [0, 0, 0, 80, 80, 160]


def test_clips_of_one_film_are_never_divided(folder: Path) -> None:
    train, held_out = FilmSource(folder, Window(2)).split(0.3)
    assert len(train) + len(held_out) == 15
    assert not set(train.keys) & set(held_out.keys)


def test_the_frames_of_a_clip_are_cropped_alike(tmp_path: Path) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (40, 40, 3), dtype=np.uint8)
    for number in range(3):
        Image.fromarray(noise).save(tmp_path / f"{number}.png")
    source = FilmSource(tmp_path, Window(3))
    views = RandomCrop(16, 1.125, 2.0, flip=0.5, count=2)
    seen = source.seen(0, views, torch.Generator().manual_seed(1))
    assert isinstance(seen, torch.Tensor) and seen.shape == (2, 3, 3, 16, 16)
    assert torch.equal(seen[:, 0], seen[:, 1]) and torch.equal(seen[:, 0], seen[:, 2])
    assert not torch.equal(seen[0], seen[1])
    moved = Augment(shift=3, flip=0.5)(seen, torch.Generator().manual_seed(1))
    assert torch.equal(moved[:, 0], moved[:, 2]) and not torch.equal(moved, seen)


def test_short_and_broken_films_are_left_out_and_listed(folder: Path) -> None:
    (folder / "rising" / "short").mkdir()
    grey(0).save(folder / "rising" / "short" / "0.png")
    (folder / "falling" / "broken.mp4").write_bytes(b"no video")
    source = FilmSource(folder, Window(8), unreadable=0.5)
    assert len(source) == 3
    assert len(source.skipped) == 2
    assert source.skipped[1] == (
        "rising/short: too short: a clip of 8 frames needs 8, and it has 1"
    )
    assert source.skipped[0].startswith("falling/broken.mp4: ")
    with pytest.raises(DataError, match=r"2 of 5 videos .* cannot be read.*more than 10%"):
        FilmSource(folder, Window(8))
    with pytest.raises(DataError, match=r"none is left"):
        FilmSource(folder, Window(12), unreadable=1.0)


def test_a_film_that_ends_early_is_found_when_it_is_decoded(folder: Path) -> None:
    whole = (folder / "falling" / "v.mp4").read_bytes()
    source = FilmSource(folder, Window(11))
    (folder / "rising" / "pictures" / "frame4.png").write_bytes(b"no picture")
    kept = collect(source, 8, unreadable=0.5)
    assert kept.pixels.shape == (2, 11, 3, 8, 8)
    assert len(kept.skipped) == 1 and "frame4.png" in kept.skipped[0]
    (folder / "falling" / "v.mp4").write_bytes(whole[:-200])
    film = open_film(folder / "falling" / "v.mp4")
    assert isinstance(film.length(), Unreadable) or isinstance(film.read(range(11)), Unreadable)


def test_films_cannot_lie_beside_class_folders(folder: Path) -> None:
    save_clip([grey(0)] * 3, folder / "loose.gif")
    with pytest.raises(DataError, match=r"1 loose film\(s\), such as 'loose.gif'"):
        FilmSource(folder, Window(2))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("moving-twemojo", "did you mean 'moving-twemoji'"),
        ("./nowhere", "'nowhere' does not exist: give a folder of"),
        ("empty", "holds no films"),
    ],
)
def test_what_is_no_set_of_clips_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=message):
        open_clips(name, Window(2))


@pytest.mark.parametrize("fields", [{"frames": 0}, {"frames": 2, "stride": 0}])
def test_a_window_has_frames(fields: dict[str, int]) -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        Window(**fields)


def test_videos_need_the_extra(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "av", None)
    assert len(FilmSource(folder / "rising", Window(2))) == 10
    for use in (
        lambda: FilmSource(folder / "falling", Window(2)),
        lambda: save_clip([grey(0)], folder / "other.mp4"),
    ):
        with pytest.raises(MissingExtra, match=r"limner\[video\]"):
            use()


def test_the_fingerprint_follows_films_and_windows(folder: Path) -> None:
    marks = {FilmSource(folder, window).fingerprint() for window in (Window(2), Window(2, 2))}
    grey(7).save(folder / "rising" / "pictures" / "frame3.png")
    marks.add(FilmSource(folder, Window(2)).fingerprint())
    assert len(marks) == 3
    drawings = [MovingDrawings("moving-noto", Window(2), seed=seed) for seed in (0, 0, 1)]
    told = [drawing.at(range(9)).fingerprint() for drawing in drawings]
    assert told[0] == told[1] != told[2]


def test_moving_drawings_follow_their_number_and_seed() -> None:
    assert "moving-twemoji" in list_moving()
    first = MovingDrawings("moving-twemoji", Window(4))
    again = open_clips("moving-twemoji", Window(4)).at([3, 700])
    for place, index in enumerate((3, 700)):
        one = first.seen(index, CentreCrop(32), torch.Generator())
        same = again.seen(place, CentreCrop(32), torch.Generator())
        assert isinstance(one, torch.Tensor) and isinstance(same, torch.Tensor)
        assert torch.equal(one, same)
    other = MovingDrawings("moving-twemoji", Window(4), seed=1)
    assert not torch.equal(first.place(3), other.place(3))
    half = len(first) // 2
    assert first.keys[3] == first.keys[3 + half] and first.caption(3) == first.caption(3 + half)
    assert not torch.equal(first.place(3), first.place(3 + half))


def test_drawings_are_where_they_are_said_to_be_and_bounce() -> None:
    source = MovingDrawings("moving-twemoji", Window(40))
    for index in range(0, 60, 20):
        place = source.place(index)
        assert place.shape == (40, 2) and bool((place >= 0).all()) and bool((place < 1).all())
        steps = place.diff(dim=0)
        speed = steps.norm(dim=1)
        assert float(speed.max()) == pytest.approx(float(speed[:2].max()), rel=0.01)
        assert bool((steps[:-1].sign() != steps[1:].sign()).any()), "40 frames hit a border"
        frames = source.frames(index)
        assert not isinstance(frames, Unreadable)
        background = np.median(np.stack([np.asarray(f) for f in frames]), axis=0)
        for frame, (top, left) in zip(frames[::9], place[::9].tolist()):
            apart = np.abs(np.asarray(frame) - background).max(-1) > 40
            rows, columns = np.nonzero(apart)
            # drawings have margins, and hide the background where they stay
            assert rows.min() >= 0 and columns.min() >= 0
            inside = apart[round(top * 64) :, round(left * 64) :].sum()
            assert inside > 0.6 * apart.sum()


def test_the_stride_skips_frames() -> None:
    every, other = (MovingDrawings("moving-noto", window) for window in (Window(5), Window(3, 2)))
    assert torch.equal(every.place(11)[::2], other.place(11))


def test_clips_fill_a_token_cache(folder: Path, tmp_path: Path) -> None:
    source = FilmSource(folder, Window(4))
    plan = CachePlan(source, CentreCrop(4), tokenizer="means", layout="4", dtype="float32")
    shapes = []

    def tokenise(clips: torch.Tensor) -> torch.Tensor:
        shapes.append(clips.shape[1:])
        return clips.mean(dim=(2, 3, 4)).unsqueeze(-1)

    build_token_cache(tmp_path / "cache", plan, tokenise)
    tokens = TokenCache(tmp_path / "cache", plan).read(torch.tensor([4]))
    assert set(shapes) == {(4, 3, 4, 4)}
    expected = [level / 127.5 - 1 for level in levels_of(source, 4)]
    assert tokens[0, :, 0].tolist() == pytest.approx(expected, abs=1e-6)
