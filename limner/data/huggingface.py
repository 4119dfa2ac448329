"""Pictures of the Hugging Face `datasets` package, saved on disk or by name."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

from limner.core.errors import DataError, load_extra
from limner.data.columns import CAPTION, FILE, LABEL, check_captions, find_column, number_labels
from limner.data.source import Source, stamp_of

PREFIX = "hf:"


class HuggingFaceSource(Source):
    """A `datasets.Dataset` with a column of pictures.

    The pictures are the column of type `Image`; label and caption are the columns "label" or
    "class" and "caption" or "text".  Keys are the numbers of the rows, which the package keeps in
    order; the caption of a picture without one is the name of its class.

    Args:
        dataset: the dataset; one split.
        name: what messages call it.

    Raises:
        DataError: there is no column of pictures, or a label or caption is of the wrong kind.
    """

    def __init__(self, dataset: Any, name: str) -> None:
        datasets = _library()
        pictures = [c for c, kind in dataset.features.items() if isinstance(kind, datasets.Image)]
        column = find_column(pictures, FILE) or next(iter(pictures), None)
        if column is None:
            found = ", ".join(dataset.column_names)
            raise DataError(f"{name} has no column of type Image; its columns: {found}")
        # The files do not tell which of their rows were selected; what the package notes does.
        files = (stamp_of(Path(file["filename"])) for file in dataset.cache_files)
        self._stamp = " ".join((dataset._fingerprint, *files))
        keys = [f"{row:08}" for row in range(len(dataset))]
        classes, labels = _labels(dataset, name)
        super().__init__(name, classes, keys, labels)
        caption = find_column(dataset.column_names, CAPTION)
        self._captions = (
            check_captions(dataset[caption][:], name) if caption else [None] * len(keys)
        )
        # Decoding is left to limner: the same limits and repairs for every source.
        encoded = dataset.select_columns([column])
        self._dataset = encoded.cast_column(column, datasets.Image(decode=False))
        self._column = column

    def open(self, index: int) -> BinaryIO:
        picture = self._dataset[index][self._column]
        if picture is None:
            raise FileNotFoundError("the row has no picture")
        if picture["bytes"] is None:
            return Path(picture["path"]).open("rb")
        return io.BytesIO(picture["bytes"])

    def stamp(self, index: int) -> str:
        return self._stamp

    def caption(self, index: int) -> str:
        return self._captions[index] or self.classes[int(self.labels[index])]


def open_saved(path: str | os.PathLike[str]) -> HuggingFaceSource:
    """Open what `Dataset.save_to_disk` wrote.

    Raises:
        DataError: it cannot be read, or holds several splits.
        MissingExtra: without the package `datasets`.
    """
    folder = Path(path).expanduser()
    if (folder / "dataset_dict.json").is_file():
        splits = [sub.name for sub in sorted(folder.iterdir()) if is_saved(sub)]
        raise DataError(
            f"{str(folder)!r} holds the splits {', '.join(splits)}: give the folder of one of them"
        )
    datasets = _library()
    try:
        dataset = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError) as error:
        raise DataError(f"dataset {str(folder)!r} cannot be read: {error}") from None
    return HuggingFaceSource(dataset, str(folder))


def open_named(name: str) -> HuggingFaceSource:
    """Open a dataset by name, "hf:NAME" or "hf:NAME:SPLIT"; it is downloaded the first time.

    Raises:
        DataError: it cannot be loaded, or has no such split.
        MissingExtra: without the package `datasets`.
    """
    repository, _, split = name.removeprefix(PREFIX).partition(":")
    datasets = _library()
    try:
        dataset = datasets.load_dataset(repository, split=split or "train")
    except Exception as error:  # the package lets errors of many other packages through
        raise DataError(f"dataset {name!r} cannot be loaded: {error}") from error
    return HuggingFaceSource(dataset, name)


def is_saved(folder: Path) -> bool:
    """Say whether a folder is what the `datasets` package writes."""
    one = (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()
    return one or (folder / "dataset_dict.json").is_file()


def _labels(dataset: Any, name: str) -> tuple[Sequence[str], Sequence[int]]:
    """Names of the classes, and the class of every row."""
    column = find_column(dataset.column_names, LABEL)
    if column is None:
        return [Path(name).name], [0] * len(dataset)
    values = list(dataset[column][:])
    names = getattr(dataset.features[column], "names", None)
    if names is None:
        return number_labels(values, Path(name).name, name)
    without = [row for row, value in enumerate(values) if value is None or value < 0]
    if without:
        raise DataError(f"{name}: {len(without)} row(s) have no label, such as row {without[0]}")
    return names, values


def _library() -> Any:
    return load_extra("datasets", "data", "a Hugging Face dataset")
