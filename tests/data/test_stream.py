"""Streams: an order that depends on seed and epoch alone, and a position that can be saved."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import os
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from limner.core.errors import ConfigError, DataError
from limner.data import (
    CentreCrop,
    PictureBatch,
    PictureLoader,
    PictureStream,
    RandomCrop,
    TenCrop,
    open_source,
)
from tests.data.encoded import bomb

Write = Callable[..., Path]
COUNT = 23


@pytest.fixture
def folder(tmp_path: Path, write: Write) -> Path:
    for i in range(COUNT):
        write(f"pictures/{'ab'[i % 2]}/{i:02}.png", seed=i)
    return tmp_path / "pictures"


def stream(folder: Path, seed: int = 0) -> PictureStream:
    return PictureStream(open_source(folder), RandomCrop(8, 1, 1.5, flip=0.5), seed)


def take(loader: PictureLoader, number: int) -> list[PictureBatch]:
    return list(itertools.islice(loader, number))


def same(first: list[PictureBatch], second: list[PictureBatch]) -> bool:
    return len(first) == len(second) and all(
        a.keys == b.keys and a.levels.equal(b.levels) for a, b in zip(first, second)
    )


def test_every_epoch_shows_every_picture_once_in_another_order(folder: Path) -> None:
    pictures = stream(folder)
    epochs = [[pictures[e * COUNT + i].key for i in range(COUNT)] for e in range(2)]
    assert sorted(epochs[0]) == sorted(epochs[1]) == sorted(pictures.source.keys)
    assert epochs[0] != epochs[1]
    assert [stream(folder, seed=1)[i].key for i in range(COUNT)] not in epochs


def test_an_example_depends_on_its_position_alone(folder: Path) -> None:
    forward = [stream(folder)[i] for i in range(40)]
    pictures = pickle.loads(pickle.dumps(stream(folder)))
    for position in (39, 3, 22, 23):
        example = pictures[position]
        assert example.key == forward[position].key
        assert example.levels.equal(forward[position].levels)
    twice = [e for e in forward if e.key == forward[0].key]
    assert len(twice) == 2 and not twice[0].levels.equal(twice[1].levels)


def test_batches_carry_labels_and_captions(folder: Path) -> None:
    loader = PictureLoader(PictureStream(open_source(folder), CentreCrop(12), shuffle=False), 4)
    batch = next(iter(loader))
    assert batch.keys == ("a/00.png", "a/02.png", "a/04.png", "a/06.png")
    assert batch.labels.tolist() == [0] * 4 and batch.captions[1] == "02"
    pictures = batch.to_float()
    assert pictures.shape == (4, 3, 12, 12) and -1 <= pictures.min() < -0.9


def test_resumes_exactly_at_any_batch(folder: Path) -> None:
    whole = take(PictureLoader(stream(folder), 5), 12)
    for done in (0, 1, 4, 5, 9):
        first = PictureLoader(stream(folder), 5)
        take(first, done)
        state = json.loads(json.dumps(first.state_dict()))
        assert state["epoch"] * COUNT + state["position"] == done * 5
        second = PictureLoader(stream(folder), 5)
        second.load_state_dict(state)
        assert same(take(second, 12 - done), whole[done:])


def test_ranks_share_the_batches_of_one_process(folder: Path) -> None:
    whole = take(PictureLoader(stream(folder), 6), 5)
    ranks = [take(PictureLoader(stream(folder), 3, rank=r, ranks=2), 5) for r in range(2)]
    for together, *parts in zip(whole, *ranks):
        assert together.keys == parts[0].keys + parts[1].keys
        assert together.levels.equal(torch.cat([part.levels for part in parts]))


def test_spawned_workers_change_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever decodes, a run goes on exactly, from the middle of an epoch and across its end.

    The position counts what was handed out, not what the workers hold ready; and no process is
    forked, which breaks with threads and accelerators and which two systems cannot do at all.
    """

    def forbidden() -> int:
        raise AssertionError("a process was forked")

    monkeypatch.setattr(os, "fork", forbidden, raising=False)
    whole = take(PictureLoader(stream(folder), 4), 9)
    state = PictureLoader(stream(folder), 4).state_dict()
    random_state = torch.get_rng_state()
    done = 0
    for workers, count in ((0, 2), (2, 3), (1, 2), (0, 2)):
        loader = PictureLoader(stream(folder), 4, workers)
        loader.load_state_dict(state)
        assert same(take(loader, count), whole[done : done + count])
        done += count
        state = json.loads(json.dumps(loader.state_dict()))
        assert state["epoch"] * COUNT + state["position"] == 4 * done
    assert torch.equal(torch.get_rng_state(), random_state)


def test_a_worker_tells_what_is_wrong_and_ends(folder: Path) -> None:
    (folder / "a/00.png").write_bytes(bomb(60_000))
    loader = PictureLoader(stream(folder), 4, workers=1)
    with pytest.raises(DataError, match=r"^picture .*00\.png' is too large .*remove it$") as kept:
        take(loader, 12)
    assert kept.value is not None and not multiprocessing.active_children()


def test_a_state_of_another_stream_is_refused(folder: Path) -> None:
    state = PictureLoader(stream(folder, seed=1), 4).state_dict()
    with pytest.raises(DataError, match=r"seed=1.* has seed=0"):
        PictureLoader(stream(folder), 4).load_state_dict(state)


def test_few_broken_pictures_are_replaced_and_listed(folder: Path) -> None:
    for name in ("a/00.png", "b/01.png"):
        (folder / name).write_bytes(b"broken")
    loader = PictureLoader(stream(folder), 4)
    batches = take(loader, 12)
    assert all(len(batch) == 4 for batch in batches)
    assert not {"a/00.png", "b/01.png"} & {key for batch in batches for key in batch.keys}
    assert sorted(line.split(":")[0] for line in loader.skipped) == ["a/00.png", "b/01.png"]


def test_many_broken_pictures_are_an_error(folder: Path) -> None:
    pictures = stream(folder)
    for i in range(0, COUNT, 4):
        (folder / f"a/{i:02}.png").unlink()
    with pytest.raises(DataError, match=r"No such file.*more than 10%"):
        take(PictureLoader(pictures, 4), 12)
    assert len(take(PictureLoader(pictures, 4, unreadable=0.3), 12)) == 12
    with pytest.raises(ConfigError, match=r"unreadable=2 .*between 0 and 1"):
        PictureLoader(pictures, 4, unreadable=2)


def test_nothing_readable_ends_with_an_error(folder: Path) -> None:
    pictures = stream(folder)
    for file in folder.rglob("*.png"):
        file.write_bytes(b"")
    with pytest.raises(DataError, match="23 pictures in a row"):
        take(PictureLoader(pictures, 4), 1)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_refused(folder: Path) -> None:
    (folder / "a/00.png").write_bytes(bomb(10_000))
    with pytest.raises(DataError, match=r"^picture .*00\.png' is too large to be safe"):
        take(PictureLoader(stream(folder), 4), 12)


def test_parts_of_a_source_can_be_streamed(folder: Path) -> None:
    train, held = open_source(folder, classes=["b"]).split(0.3)
    streams = [PictureStream(part, CentreCrop(8)) for part in (train, held)]
    shown = [{part[i].key for i in range(len(part))} for part in streams]
    assert not shown[0] & shown[1]
    assert shown[0] | shown[1] == {f"b/{i:02}.png" for i in range(1, COUNT, 2)}


def test_settings_that_make_no_stream(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"views=TenCrop.*one view"):
        PictureStream(open_source(folder), TenCrop(8))
    with pytest.raises(ConfigError, match="rank"):
        PictureLoader(stream(folder), 4, rank=2, ranks=2)
