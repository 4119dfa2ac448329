"""What holds for every source: faults, fingerprints, parts, and copies for worker processes."""

from __future__ import annotations

import json
import os
import pickle
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from limner.core.errors import DataError
from limner.data import Source, load_folder, load_packaged, load_pictures, open_source

Write = Callable[..., Path]
KINDS = ("folder", "table", "shard")
COUNT = 20


@pytest.fixture
def make(tmp_path: Path, write: Write) -> Callable[[str], Path]:
    """A function that offers the folder `plain` of 20 pictures as a source of some kind."""
    files = [write(f"plain/{i:02}.png", seed=i, size=(40, 40)) for i in range(COUNT)]

    def offer(kind: str) -> Path:
        if kind == "table":
            rows = [json.dumps({"file": f"plain/{file.name}"}) for file in files]
            (tmp_path / "table.jsonl").write_text("\n".join(rows))
            return tmp_path / "table.jsonl"
        if kind == "shard":
            with tarfile.open(tmp_path / "shard.tar", "w") as archive:
                for file in files:
                    archive.add(file, file.name)
            return tmp_path / "shard.tar"
        return tmp_path / "plain"

    return offer


@pytest.mark.parametrize("kind", KINDS)
def test_same_pictures_whatever_they_lie_in(make: Callable[[str], Path], kind: str) -> None:
    pictures = load_pictures(make(kind), 8)
    assert pictures.pixels.equal(load_folder(make("folder"), 8).pixels)
    assert len(set(pictures.keys)) == COUNT and pictures.captions[3] == "03"


@pytest.mark.parametrize("kind", KINDS)
def test_a_cut_picture_is_skipped_and_more_are_an_error(
    make: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    files = sorted((tmp_path / "plain").iterdir())
    for file in files[3:5]:
        file.write_bytes(file.read_bytes()[:2000])
    pictures = load_pictures(make(kind), 8)
    assert len(pictures) == 18 and len(pictures.skipped) == 2
    assert "03" in pictures.skipped[0] and "truncated" in pictures.skipped[0]
    files[9].write_bytes(b"")
    with pytest.raises(DataError, match=r"3 of 20 pictures .*more than 10%"):
        load_pictures(make(kind), 8)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused(
    make: Callable[[str], Path], tmp_path: Path, bomb: Callable[[int], bytes], kind: str
) -> None:
    (tmp_path / "plain/07.png").write_bytes(bomb(60_000))
    with pytest.raises(DataError, match=r"07.* is too large to be safe"):
        load_pictures(make(kind), 8)


def test_missing_files_of_a_table_are_listed(make: Callable[[str], Path], tmp_path: Path) -> None:
    table = make("table")
    (tmp_path / "plain/02.png").unlink()
    assert load_pictures(table, 8).skipped == ("plain/02.png: No such file or directory",)


@pytest.mark.parametrize("kind", KINDS)
def test_fingerprints_follow_the_pictures(
    make: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    source = open_source(make(kind))
    first = source.fingerprint()
    assert open_source(tmp_path / os.path.basename(source.name)).fingerprint() == first
    assert source.split(0.2)[0].fingerprint() != first
    os.utime(source.name if kind == "shard" else tmp_path / "plain/05.png", ns=(1, 1))
    assert source.fingerprint() != first


@pytest.mark.parametrize("kind", (*KINDS, "packaged"))
def test_copies_for_worker_processes(make: Callable[[str], Path], kind: str) -> None:
    source: Source = open_source("twemoji" if kind == "packaged" else make(kind))
    copy = pickle.loads(pickle.dumps(source))
    assert copy.keys == source.keys and copy.labels.equal(source.labels)
    assert copy.picture(5) == source.picture(5) and copy.caption(5) == source.caption(5)
    assert copy.fingerprint() == source.fingerprint()


def test_parts_of_a_source_agree_with_parts_of_a_set() -> None:
    source, pictures = open_source("twemoji"), load_packaged("twemoji", 16)
    for ours, theirs in zip(source.split(0.2), pictures.split(0.2)):
        assert ours.keys == theirs.keys and torch.equal(ours.labels, theirs.labels)
    chosen = source.only(["Objects", "Activities"])
    assert chosen.keys == pictures.only(["Objects", "Activities"]).keys
    assert chosen.classes == ("Objects", "Activities")
    assert torch.bincount(chosen.labels).tolist() == [262, 85]
    assert source.caption(source.keys.index(chosen.keys[9])) == chosen.caption(9)
    with pytest.raises(DataError, match="unknown class"):
        source.only(["objects"])
