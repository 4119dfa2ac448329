"""Names as people give them, on every system, and folders that may not be written."""

from __future__ import annotations

import csv
import json
import os
import sys
import tarfile
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
import torch
from pyarrow import parquet

from limner.data import CachePlan, CentreCrop, TokenCache, build_token_cache, load_pictures
from limner.data.load import open_source
from limner.data.source import Source

Write = Callable[..., Path]
ODD = "größe #1 & 100% [x]{0..3} ~ it's, Ω 猫"
# 255 bytes, the most that file systems take; Windows counts the folders too
LONG = "é" * (125 if os.name == "posix" else 20) + "x.png"


def tokenise(pictures: torch.Tensor) -> torch.Tensor:
    return (pictures.mean((1, 2, 3)) * 100 + 100).long()[:, None, None]


def kept_and_read(folder: Path, source: Source) -> torch.Tensor:
    """Tokens of a source by way of a cache in a folder."""
    plan = CachePlan(source, CentreCrop(8), "vq", "one", "uint8")
    build_token_cache(folder, plan, tokenise)
    return TokenCache(folder, plan).read(torch.arange(len(source)))


def test_folders_and_files_of_odd_names(tmp_path: Path, write: Write) -> None:
    folder = tmp_path / ODD / "pictures"
    for seed, name in enumerate((f"{ODD}/{ODD}.png", "b c/d.e.f.png", f"b c/{LONG}", "b c/~.png")):
        write(str(folder / name), seed)
    pictures = load_pictures(folder, 8)
    assert pictures.classes == ("b c", ODD)
    assert set(pictures.keys) == {
        "b c/d.e.f.png",
        f"b c/{LONG}",
        "b c/~.png",
        f"{ODD}/{ODD}.png",
    }
    assert pictures.captions[-1] == ODD
    assert kept_and_read(tmp_path / ODD / "kept", open_source(str(folder))).shape == (4, 1, 1)


@pytest.mark.parametrize("kind", ["jsonl", "csv", "tsv", "parquet"])
def test_tables_that_name_odd_files(tmp_path: Path, write: Write, kind: str) -> None:
    names = [f"{ODD}/{ODD}.png", LONG, "a.png"]
    for seed, name in enumerate(names):
        write(f"{ODD}/{name}", seed)
    table = tmp_path / ODD / f"{ODD}.{kind}"
    if kind == "jsonl":
        table.write_text("\n".join(json.dumps({"file": name}) for name in names))
    elif kind == "parquet":
        parquet.write_table(pyarrow.table({"file": names}), table)
    else:
        with table.open("w", newline="", encoding="utf-8") as out:
            writer = csv.writer(out, dialect="excel" if kind == "csv" else "excel-tab")
            writer.writerows([["file"], *([name] for name in names)])
    pictures = load_pictures(table, 8)
    assert pictures.keys == tuple(names) and pictures.classes == (ODD,)


def test_shards_of_odd_names(tmp_path: Path, write: Write) -> None:
    """Braces of a file that is there stand for themselves."""
    shard = tmp_path / ODD / f"{ODD}.tar"
    content = write("a.png")
    shard.parent.mkdir()
    with tarfile.open(shard, "w") as archive:
        archive.add(content, f"./{ODD.replace('.', '')}.png")
    for place in (shard, shard.parent):
        assert open_source(place).keys == (f"{ODD}/{ODD.replace('.', '')}",)


def test_backslashes_of_a_table_written_on_windows(tmp_path: Path, write: Write) -> None:
    write("pictures/deep/a b.png", 1)
    write("pictures/b.png", 2)
    rows = [{"file": r"pictures\deep\a b.png"}, {"file": r".\pictures\b.png"}]
    (tmp_path / "train.jsonl").write_text("\r\n".join(map(json.dumps, rows)))
    source = open_source(tmp_path / "train.jsonl")
    assert source.keys[0] == "pictures/deep/a b.png" and source.caption(0) == "a b"
    assert len(load_pictures(tmp_path / "train.jsonl", 8)) == 2


def test_capitals_of_suffixes_do_not_count(tmp_path: Path, write: Write) -> None:
    for name in ("A.JPG", "B.Jpeg", "C.PNG", "D.WebP", "E.jfif"):
        write(f"a/{name.rsplit('.')[0]}.jpg").rename(tmp_path / "a" / name)
    (tmp_path / "a/C.TXT").write_bytes(b"\xef\xbb\xbfa caption\r\nmore\r\n")
    assert load_pictures(tmp_path / "a", 8).captions == ("A", "B", "a caption", "D", "E")
    (tmp_path / "T.CSV").write_text("FILE\na/A.JPG\n")
    assert open_source(tmp_path / "T.CSV").keys == ("a/A.JPG",)
    (tmp_path / "shards").mkdir()
    with tarfile.open(tmp_path / "shards/S.TAR", "w") as archive:
        archive.add(tmp_path / "a/A.JPG", "A.JPG")
        archive.add(tmp_path / "a/C.TXT", "A.TXT")
    for place in (tmp_path / "shards", tmp_path / "shards/S.TAR"):
        source = open_source(place)
        assert source.keys == ("S/A",) and "a caption" in source.caption(0)


def test_classes_are_ordered_alike_on_systems_that_ignore_capitals(
    tmp_path: Path, write: Write
) -> None:
    for name in ("b/x.png", "A/x.png", "a b/x.png", "C/x.png"):
        write(name)
    assert open_source(tmp_path).classes == ("A", "C", "a b", "b")


@pytest.mark.skipif(sys.platform in ("win32", "darwin"), reason="names there are text")
def test_names_that_are_no_text(tmp_path: Path, write: Write) -> None:
    write("pictures/a.png").rename(os.fsdecode(os.fsencode(tmp_path / "pictures") + b"/\xff.png"))
    source = open_source(tmp_path / "pictures")
    assert len(load_pictures(tmp_path / "pictures", 8)) == 1 and source.fingerprint()
    assert kept_and_read(tmp_path / "kept", source).shape == (1, 1, 1)


def test_nothing_is_written_where_pictures_are_read(tmp_path: Path, write: Write) -> None:
    """A folder that may not be written is as good, and so is a cache that is whole."""
    for i in range(3):
        write(f"pictures/a/{i}.png", i)
    cache = tmp_path / "kept"
    first = kept_and_read(cache, open_source(tmp_path / "pictures"))
    folders = [tmp_path / "pictures", tmp_path / "pictures/a", cache]
    for folder in folders:
        os.utime(folder, ns=(1, 1))
        folder.chmod(0o555)
    try:
        assert len(load_pictures(tmp_path / "pictures", 8)) == 3
        assert kept_and_read(cache, open_source(tmp_path / "pictures")).equal(first)
        # a file that came or went would have changed the time, whatever rights this user has
        assert {folder.stat().st_mtime_ns for folder in folders} == {1}
    finally:
        for folder in folders:
            folder.chmod(0o755)
