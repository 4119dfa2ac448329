"""Tables that list pictures: what they may hold, and every way in which they can be wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pyarrow
import pytest
from pyarrow import parquet

from limner.core.errors import DataError, MissingExtra
from limner.data import load_pictures, open_source

Write = Callable[..., Path]


@pytest.fixture
def table(tmp_path: Path, write: Write) -> Callable[..., Path]:
    """A function that writes a table with two pictures, pictures/a.png and pictures/b.png, by."""
    write("pictures/a.png", seed=1)
    write("pictures/b_1.png", seed=2)

    def save(name: str, text: str) -> Path:
        (tmp_path / name).write_text(text, encoding="utf-8")
        return tmp_path / name

    return save


def test_json_lines_with_captions_and_labels(table: Write) -> None:
    file = table(
        "train.jsonl",
        '{"file": "pictures/b_1.png", "caption": " a bee ", "label": "bee"}\n\n'
        '{"file": "pictures/a.png", "label": "ant", "score": 3}\n',
    )
    pictures = load_pictures(file, 8)
    assert pictures.keys == ("pictures/b_1.png", "pictures/a.png")
    assert pictures.classes == ("ant", "bee") and pictures.labels.tolist() == [1, 0]
    assert pictures.captions == ("a bee", "a")
    assert not pictures.pixels[0].equal(pictures.pixels[1])
    assert load_pictures(file, 8, classes=["ant"]).keys == ("pictures/a.png",)


def test_csv_of_a_spreadsheet(table: Write) -> None:
    file = table(
        "train.csv",
        '\ufeff,Path,Text,Class\r\n0,pictures/a.png,"one, two",10\r\n1,pictures\\b_1.png,,9\r\n',
    )
    pictures = load_pictures(file, 8)
    assert pictures.keys == ("pictures/a.png", "pictures/b_1.png")
    assert pictures.captions == ("one, two", "b 1")
    assert pictures.classes == ("9", "10") and pictures.labels.tolist() == [1, 0]


def test_without_labels_there_is_one_class(table: Write) -> None:
    """The unnamed first column that some programs write is no label."""
    source = open_source(table("insects.tsv", "\tfile\n0\tpictures/a.png\n1\tpictures/b_1.png\n"))
    assert source.classes == ("insects",) and source.labels.tolist() == [0, 0]


def test_parquet(tmp_path: Path, table: Write) -> None:
    file = tmp_path / "train.parquet"
    columns = {"path": ["pictures/a.png", "pictures/b_1.png"], "label": [7, 3], "x": [0.5, 1.5]}
    columns["text"] = ["an ant", None]
    parquet.write_table(pyarrow.table(columns), file)
    source = open_source(file)
    assert source.keys == tuple(columns["path"])
    assert source.classes == ("3", "7") and source.labels.tolist() == [1, 0]
    assert [source.caption(i) for i in range(2)] == ["an ant", "b 1"]
    categories = pyarrow.array(["bee", "ant"]).dictionary_encode()
    parquet.write_table(pyarrow.table({"file": columns["path"], "class": categories}), file)
    assert open_source(file).classes == ("ant", "bee")
    file.write_bytes(file.read_bytes()[:-20])
    with pytest.raises(DataError, match=r"train\.parquet' cannot be read"):
        open_source(file)
    parquet.write_table(pyarrow.table({"image": [{"bytes": b"", "path": "a"}]}), file)
    with pytest.raises(DataError, match="the pictures themselves"):
        open_source(file)


def test_parquet_without_its_package(table: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(MissingExtra, match=r"limner\[data\]"):
        open_source(table("train.parquet", ""))


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.jsonl", '{"file": "a.png"}\n{"file": ', "line 2 is not JSON"),
        ("a.jsonl", '["a.png"]\n', "line 1 must be an object"),
        ("a.jsonl", "", "names no pictures"),
        ("a.jsonl", '{"picture": "a.png"}\n', "file or path or .*its columns: picture"),
        ("a.jsonl", '{"file": "a.png"}\n{"caption": "b"}\n', "row 2 has the file None"),
        ("a.jsonl", '{"file": "https://x.org/a.png"}\n', "row 1 names an address"),
        ("a.jsonl", '{"file": "a.png", "label": 1}\n{"file": "b.png"}', "picture 2 has the label"),
        ("a.jsonl", '{"file": "a.png", "label": 1.5}\n', "picture 1 has the label 1.5"),
        ("a.jsonl", '{"file": "a.png", "caption": ["x"]}\n', "picture 1 has the caption"),
        ("a.csv", "file,caption\na.png,one, two\n", "line 2 has 3 fields and the header has 2"),
        ("a.csv", 'file\n"a.png', "cannot be read"),
        ("a.csv", "", "names no pictures"),
    ],
)
def test_bad_tables_say_what_is_wrong(table: Write, name: str, text: str, message: str) -> None:
    with pytest.raises(DataError, match=message):
        open_source(table(name, text))


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes(b"file\n\xff\xfe\n")
    with pytest.raises(DataError, match=r"a\.csv' cannot be read"):
        open_source(tmp_path / "a.csv")


def test_captions_of_one_picture_stay_on_one_side_of_a_split(table: Write) -> None:
    rows = [{"file": f"{i % 10}.png", "caption": f"caption {i}"} for i in range(50)]
    source = open_source(table("a.jsonl", "\n".join(map(json.dumps, rows))))
    train, held = source.split(0.3)
    assert len(train) + len(held) == 50 and not set(train.keys) & set(held.keys)
    assert held.caption(0) in {f"caption {i}" for i in range(50) if f"{i % 10}.png" in held.keys}
