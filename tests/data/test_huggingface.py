"""Datasets of the Hugging Face package, where it is installed."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limner.core.errors import DataError, MissingExtra
from limner.data import load_folder, load_pictures, open_source

Write = Callable[..., Path]


@pytest.fixture
def datasets() -> Any:
    return pytest.importorskip("datasets")


def test_saved_dataset(tmp_path: Path, write: Write, datasets: Any) -> None:
    files = [write(f"plain/{i}.png", seed=i) for i in range(4)]
    features = datasets.Features(
        picture=datasets.Image(),
        label=datasets.ClassLabel(names=["zebra", "ant"]),
        text=datasets.Value("string"),
    )
    rows = {"picture": [str(file) for file in files], "label": [1, 0, 1, 1], "text": list("wxy ")}
    dataset = datasets.Dataset.from_dict(rows, features=features)
    dataset.save_to_disk(tmp_path / "saved")
    pictures = load_pictures(tmp_path / "saved", 8)
    assert pictures.pixels.equal(load_folder(tmp_path / "plain", 8).pixels)
    assert pictures.classes == ("zebra", "ant") and pictures.labels.tolist() == [1, 0, 1, 1]
    assert pictures.captions == ("w", "x", "y", "ant")
    assert pictures.keys[1] == "00000001"
    assert open_source(tmp_path / "saved").fingerprint()

    datasets.DatasetDict(train=dataset).save_to_disk(tmp_path / "splits")
    with pytest.raises(DataError, match="the splits train"):
        open_source(tmp_path / "splits")
    assert len(open_source(tmp_path / "splits/train")) == 4
    dataset.select_columns(["text"]).save_to_disk(tmp_path / "texts")
    with pytest.raises(DataError, match="no column of type Image; its columns: text"):
        open_source(tmp_path / "texts")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    for source in (tmp_path, "hf:someone/something:test"):
        with pytest.raises(MissingExtra, match=r"'datasets'.*limner\[data\]"):
            open_source(source)
