"""Pictures that a table lists: JSON lines, CSV or Parquet."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import BinaryIO

from limner.core.errors import DataError, MissingExtra
from limner.data.columns import (
    CAPTION,
    FILE,
    LABEL,
    check_captions,
    find_column,
    number_labels,
)
from limner.data.source import Source, in_words, stamp_of

Table = Mapping[str, Sequence[object]]
"""Column name -> its values, as many in every column."""


class ManifestSource(Source):
    """A table with one row a picture: its file and, where there are any, its caption and label.

    Columns, by the first of these names that is there: the file ("file", "path", "file_name",
    "filename", "image"; relative to the table's folder or absolute), the label ("label", "class"; a
    whole number or a text) and the caption ("caption", "text").  A picture without caption takes
    its file name in words; one that several rows name, with a caption each, counts several times
    and stays on one side of a split.

    Args:
        path: a file that ends in one of `MANIFESTS`.

    Raises:
        DataError: the table cannot be read, lacks a column for the file, or holds a bad row.
        MissingExtra: a Parquet file, without pyarrow.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        table_file = Path(path).expanduser()
        where = str(table_file)
        if not table_file.is_file():
            raise DataError(f"picture table {where!r} does not exist or is not a file")
        read = MANIFESTS.get(table_file.suffix.lower())
        if read is None:
            raise DataError(f"picture table {where!r} must end in {', '.join(MANIFESTS)}")
        try:
            table = read(table_file)
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise DataError(f"picture table {where!r} cannot be read: {error}") from None
        files, labels, captions = (_column(table, names) for names in (FILE, LABEL, CAPTION))
        if not files:
            found = f"its columns: {', '.join(table) or 'none'}"
            raise DataError(
                f"{where} names no pictures: needs a column {' or '.join(FILE)}; {found}"
            )
        keys = _check_files(files, where)
        nothing = [None] * len(keys)
        classes, numbers = number_labels(labels or nothing, table_file.stem, where)
        super().__init__(where, classes, keys, numbers)
        self.folder = table_file.parent
        self._captions = check_captions(captions or nothing, where)

    def open(self, index: int) -> BinaryIO:
        return (self.folder / self.keys[index]).open("rb")

    def stamp(self, index: int) -> str:
        return stamp_of(self.folder / self.keys[index])

    def caption(self, index: int) -> str:
        return self._captions[index] or in_words(self.keys[index])


def _column(table: Table, accepted: Sequence[str]) -> Sequence[object]:
    """The values of the first accepted column that is there; none if none is."""
    name = find_column(table, accepted)
    return () if name is None else table[name]


def _check_files(values: Sequence[object], where: str) -> list[str]:
    """The file names of a table, with forward slashes."""
    files = []
    for row, value in enumerate(values, start=1):
        if isinstance(value, (Mapping, bytes)):
            raise DataError(
                f"{where} holds the pictures themselves, not their files: save it with the package "
                "'datasets' (Dataset.from_parquet(file).save_to_disk(folder)) and give the folder"
            )
        if not isinstance(value, str) or not value.strip() or "\0" in value:
            raise DataError(f"{where}: row {row} has the file {value!r}: it must be a path")
        if "://" in value:
            raise DataError(f"{where}: row {row} names an address, {value!r}: download it first")
        files.append(value.strip().replace("\\", "/"))
    return files


def _read_json_lines(file: Path) -> Table:
    rows = []
    with file.open(encoding="utf-8-sig") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                row = json.loads(line)
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}: line {number} is not JSON: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{file}: line {number} must be an object such as {{'file': ...}}")
            rows.append(row)
    columns = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in columns}


def _read_csv(file: Path) -> Table:
    delimiter = "\t" if file.suffix.lower() == ".tsv" else ","
    with file.open(encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines, delimiter=delimiter, strict=True)
        header = next(reader, [])
        rows = []
        for row in reader:
            if len(row) not in (0, len(header)):
                raise DataError(
                    f"{file}: line {reader.line_num} has {len(row)} fields and the header has "
                    f"{len(header)}: put quotes around texts with a comma"
                )
            if row:
                rows.append(row)
    return {name: [row[i] or None for row in rows] for i, name in enumerate(header)}


def _read_parquet(file: Path) -> Table:
    try:
        pyarrow = import_module("pyarrow")
        parquet = import_module("pyarrow.parquet")
    except ImportError:
        raise MissingExtra("pyarrow", "data", "a Parquet table") from None
    try:
        names = parquet.read_schema(file).names
        found = (find_column(names, accepted) for accepted in (FILE, LABEL, CAPTION))
        wanted = [name for name in found if name is not None]
        columns: Table = parquet.read_table(file, columns=wanted).to_pydict()
    except pyarrow.ArrowException as error:
        raise DataError(f"picture table {str(file)!r} cannot be read: {error}") from None
    return columns or dict.fromkeys(names, ())


MANIFESTS: dict[str, Callable[[Path], Table]] = {
    ".jsonl": _read_json_lines,
    ".ndjson": _read_json_lines,
    ".csv": _read_csv,
    ".tsv": _read_csv,
    ".parquet": _read_parquet,
}
"""File suffix -> what reads such a table."""
