"""WebDataset shards."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from limner.core.errors import DataError
from limner.data import load_folder, load_pictures, open_source

Write = Callable[..., Path]


def pack(shard: Path, members: dict[str, bytes]) -> Path:
    """Write a tar file."""
    shard.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(shard, "w") as archive:
        for name, content in members.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return shard


def test_members_of_one_name_belong_together(tmp_path: Path, write: Write) -> None:
    a, b = (write(f"{name}.png", seed).read_bytes() for seed, name in enumerate("ab"))
    shard = pack(
        tmp_path / "shards/train-0.tar",
        {
            "deep/x.1.cls": b"no picture",
            "deep/b.png": b,
            "deep/b.seg.png": a,
            "deep/b.json": b'{"label": 12, "caption": "from json", "width": 12}',
            "deep/a.cls": b"5\n",
            "deep/a.txt": "naïve".encode(),
            "deep/a.PNG": a,
        },
    )
    pictures = load_pictures(shard, 12)
    assert pictures.keys == ("train-0/deep/b", "train-0/deep/a")
    assert pictures.captions == ("from json", "naïve")
    assert pictures.classes == ("5", "12") and pictures.labels.tolist() == [1, 0]
    assert not pictures.pixels[0].equal(pictures.pixels[1])


def test_pictures_are_those_that_were_packed(tmp_path: Path, write: Write) -> None:
    files = [write(f"plain/{i}.png", seed=i) for i in range(5)]
    for i, file in enumerate(files):
        pack(tmp_path / f"train-{i:02}.tar", {f"{i}.png": file.read_bytes()})
    plain = load_folder(tmp_path / "plain", 8)
    ranged = load_pictures(str(tmp_path / "train-{01..03}.tar"), 8)
    assert ranged.pixels.equal(plain.pixels[1:4])
    assert ranged.keys == ("train-01/1", "train-02/2", "train-03/3")
    assert ranged.classes == ("train",) and ranged.captions == ("1", "2", "3")


def test_a_folder_of_shards(tmp_path: Path, write: Write) -> None:
    content = write("elsewhere/a.png").read_bytes()
    for name in "ba":
        pack(tmp_path / "shards" / f"{name}.tar", {"x.png": content})
    assert open_source(tmp_path / "shards").keys == ("a/x", "b/x")
    assert load_pictures(tmp_path / "shards", 8).classes == ("shards",)


def test_a_stray_archive_beside_class_folders_is_left_alone(tmp_path: Path, write: Write) -> None:
    pack(tmp_path / "backup.tar", {"x.png": write("cats/a.png").read_bytes()})
    assert open_source(tmp_path).keys == ("cats/a.png",)


def test_bad_shards_say_what_is_wrong(tmp_path: Path, write: Write) -> None:
    picture = write("a.png", size=(64, 64)).read_bytes()
    whole = pack(tmp_path / "whole.tar", {"a.png": picture, "b.png": picture})
    (tmp_path / "cut.tar").write_bytes(whole.read_bytes()[: len(picture) + 3000])
    with pytest.raises(DataError, match=r"cut\.tar' cannot be read .*get it again"):
        open_source(tmp_path / "cut.tar")
    with tarfile.open(tmp_path / "packed.tar", "w:gz"):
        pass
    with pytest.raises(DataError, match=r"packed\.tar.* uncompressed"):
        open_source(tmp_path / "packed.tar")
    with pytest.raises(DataError, match="holds no pictures"):
        open_source(pack(tmp_path / "none.tar", {"a.txt": b"x"}))
    with pytest.raises(DataError, match=r"do not exist: whole-1\.tar, whole-2\.tar"):
        open_source(tmp_path / "whole-{1..2}.tar")
    with pytest.raises(DataError, match="cannot be read"):
        open_source(pack(tmp_path / "json.tar", {"a.png": picture, "a.json": b"{"}))
    with pytest.raises(DataError, match="picture 2 has the label None"):
        open_source(pack(tmp_path / "l.tar", {"a.png": b"", "a.cls": b"1", "b.png": b""}))
