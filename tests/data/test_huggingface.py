"""Datasets of the Hugging Face package."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import datasets
import pytest

from limner.core.errors import DataError, MissingExtra
from limner.data import load_folder, load_pictures, open_source
from limner.data.huggingface import HuggingFaceSource
from limner.data.source import collect
from limner.data.unreadable import Unreadable
from tests.data.encoded import noise

Write = Callable[..., Path]


def test_saved_dataset(tmp_path: Path, write: Write) -> None:
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


def numbered(seeds: list[int]) -> datasets.Dataset:
    """A dataset in memory; pictures are told apart by their seed."""
    rows = {"image": [noise(8, 8, seed) for seed in seeds], "label": ["a", "b"] * (len(seeds) // 2)}
    features = datasets.Features(image=datasets.Image(), label=datasets.Value("string"))
    return datasets.Dataset.from_dict(rows, features=features)


def test_fingerprints_tell_rows_apart_that_lie_in_the_same_files(tmp_path: Path) -> None:
    numbered([0, 1, 2, 3]).save_to_disk(tmp_path / "saved")
    for whole in (numbered([0, 1, 2, 3]), datasets.load_from_disk(tmp_path / "saved")):
        parts = [whole, whole.select([0, 1]), whole.select([2, 3]), whole.select([3, 2])]
        found = {HuggingFaceSource(part, "x").fingerprint() for part in parts}
        assert len(found) == 4
        again = HuggingFaceSource(whole.select([2, 3]), "x").fingerprint()
        assert again in found
    assert (
        HuggingFaceSource(numbered([4, 5]), "x").fingerprint()
        != HuggingFaceSource(numbered([5, 4]), "x").fingerprint()
    )


def test_selected_rows_are_the_pictures_shown() -> None:
    source = HuggingFaceSource(numbered([7, 8, 9, 10]).select([2, 0]), "memory")
    assert source.classes == ("a",) and source.keys == ("00000000", "00000001")
    picture = source.picture(0)
    assert not isinstance(picture, Unreadable)
    assert picture.tobytes() == noise(8, 8, 9).tobytes()


def test_rows_without_a_picture_or_a_label() -> None:
    features = datasets.Features(
        image=datasets.Image(), label=datasets.ClassLabel(names=["ant", "bee"])
    )
    rows = {"image": [noise(8, 8), None, *[noise(8, 8)] * 18], "label": [0] * 20}
    pictures = collect(
        HuggingFaceSource(datasets.Dataset.from_dict(rows, features=features), "x"), 8
    )
    assert pictures.skipped == ("00000001: the row has no picture",)
    rows = {"image": [noise(8, 8)] * 2, "label": [1, None]}
    with pytest.raises(DataError, match=r"1 row\(s\) have no label, such as row 1"):
        HuggingFaceSource(datasets.Dataset.from_dict(rows, features=features), "x")


def test_a_dataset_by_name(tmp_path: Path, write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder stands for a name on the hub: the package loads both in the same way."""
    for name in ("ant/a.png", "bee/b.png"):
        write(f"train/{name}")
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    pictures = load_pictures(f"hf:{tmp_path / 'train'}", 8)
    assert pictures.classes == ("ant", "bee") and len(pictures) == 2
    with pytest.raises(DataError, match="cannot be loaded"):
        open_source(f"hf:{tmp_path / 'train'}:nowhere")


def test_without_the_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for name in ("state.json", "dataset_info.json"):
        (tmp_path / name).write_text("{}")
    for source in (tmp_path, "hf:someone/something:test"):
        with pytest.raises(MissingExtra, match=r"'datasets'.*limner\[data\]"):
            open_source(source)
