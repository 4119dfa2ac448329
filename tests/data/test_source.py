"""What holds for every source: faults, fingerprints, parts, and copies for worker processes."""

from __future__ import annotations

import csv
import json
import multiprocessing
import os
import shutil
import tarfile
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import datasets
import pyarrow
import pytest
import torch
from pyarrow import parquet

from limner.core.errors import ConfigError, DataError
from limner.data import (
    CachePlan,
    CentreCrop,
    Source,
    load_folder,
    load_packaged,
    load_pictures,
    open_source,
)
from limner.data.source import collect
from limner.data.unreadable import Unreadable
from tests.data.encoded import bomb

Write = Callable[..., Path]
TABLES = ("jsonl", "csv", "tsv", "parquet")
KINDS = ("folder", "shard", "datasets", *TABLES)
COUNT = 20


def write_table(file: Path, rows: list[dict[str, str]]) -> None:
    """Write rows as a table of the kind that the file's suffix names."""
    if file.suffix == ".jsonl":
        file.write_text("\n".join(map(json.dumps, rows)))
    elif file.suffix == ".parquet":
        parquet.write_table(pyarrow.Table.from_pylist(rows), file)
    else:
        with file.open("w", newline="") as out:
            dialect = "excel" if file.suffix == ".csv" else "excel-tab"
            writer = csv.DictWriter(out, rows[0], dialect=dialect)
            writer.writeheader()
            writer.writerows(rows)


def save_dataset(folder: Path, files: list[Path]) -> None:
    """Write files and captions with the Hugging Face package, the encoded pictures inside."""
    features = datasets.Features(image=datasets.Image(), caption=datasets.Value("string"))
    rows = {"image": [str(file) for file in files], "caption": [file.stem for file in files]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(folder)


@pytest.fixture
def make(tmp_path: Path, write: Write) -> Callable[[str], Path]:
    """A function that offers the folder `plain` of 20 pictures as a source of some kind."""
    files = [write(f"plain/{i:02}.png", seed=i, size=(40, 40)) for i in range(COUNT)]

    def offer(kind: str) -> Path:
        if kind in TABLES:
            write_table(tmp_path / f"table.{kind}", [{"file": f"plain/{f.name}"} for f in files])
            return tmp_path / f"table.{kind}"
        if kind == "shard":
            with tarfile.open(tmp_path / "shard.tar", "w") as archive:
                for file in files:
                    archive.add(file, file.name)
            return tmp_path / "shard.tar"
        if kind == "datasets":
            shutil.rmtree(tmp_path / "saved", ignore_errors=True)
            save_dataset(tmp_path / "saved", files)
            return tmp_path / "saved"
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
    assert len(load_pictures(make(kind), 8, unreadable=0.15)) == 17


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", KINDS)
def test_bombs_are_refused(make: Callable[[str], Path], tmp_path: Path, kind: str) -> None:
    (tmp_path / "plain/07.png").write_bytes(bomb(60_000))
    with pytest.raises(DataError, match=r"07.* is too large to be safe"):
        load_pictures(make(kind), 8)


def test_the_share_that_may_be_unreadable(make: Callable[[str], Path], tmp_path: Path) -> None:
    source = open_source(make("folder"))
    for share in (-0.1, 1.1):
        with pytest.raises(ConfigError, match=rf"unreadable={share} .*between 0 and 1"):
            collect(source, 8, share)
    (tmp_path / "plain/00.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"1 of 20 pictures .*more than 4\.9%"):
        collect(source, 8, 0.049)
    assert len(collect(source, 8, 0.05)) == 19
    for file in (tmp_path / "plain").iterdir():
        file.write_bytes(b"")
    with pytest.raises(DataError, match=r"20 of 20 pictures .*none is left"):
        collect(source, 8, 1.0)


def test_a_class_without_pictures_is_named(make: Callable[[str], Path]) -> None:
    source = open_source(make("folder"))
    with pytest.raises(DataError, match=r"plain' has no pictures"):
        collect(source.at([]), 8)
    with pytest.raises(DataError, match=r"plain' has no pictures"):
        CachePlan(source.at([]), CentreCrop(8), "vq", "grid")


@pytest.mark.parametrize("kind", TABLES)
def test_missing_files_of_a_table_are_listed(
    make: Callable[[str], Path], tmp_path: Path, kind: str
) -> None:
    table = make(kind)
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
    inside = {"shard": "shard.tar", "datasets": "saved/data-00000-of-00001.arrow"}
    os.utime(tmp_path / inside.get(kind, "plain/05.png"), ns=(1, 1))
    if kind == "datasets":  # its stamp is taken when it is opened: its pictures are held open
        source = open_source(source.name)
    assert source.fingerprint() != first


def described(source: Source) -> tuple[object, ...]:
    """All that a worker process makes of a source."""
    picture = source.picture(5)
    assert not isinstance(picture, Unreadable)
    labels = source.labels.tolist()
    return source.keys, labels, source.caption(5), source.fingerprint(), picture.tobytes()


def test_copies_for_spawned_processes(make: Callable[[str], Path]) -> None:
    """Each kind, and parts of it: nothing that is open or cannot be pickled is kept."""
    sources = [open_source("twemoji"), *(open_source(make(kind)) for kind in KINDS)]
    sources += [source.split(0.2)[0] for source in sources]
    for source in sources:
        source.picture(5)
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        assert list(pool.map(described, sources)) == [described(source) for source in sources]


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
