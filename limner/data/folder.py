"""Pictures from a folder of files; sub-folders are classes."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from limner.core.errors import DataError
from limner.data.images import SUFFIXES
from limner.data.source import Source, in_words, stamp_of


class FolderSource(Source):
    """A folder of picture files.

    Every sub-folder that holds pictures, at any depth, is a class; without sub-folders all pictures
    are of one class, named as the folder.  A caption is the first line of a .txt file of the same
    name, else the file name in words.  Hidden files are left out.  The order depends on the names
    alone.

    Args:
        path: the folder.

    Raises:
        DataError: the folder is missing or holds no pictures, or pictures lie beside class folders.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.folder = Path(path).expanduser()
        groups = _find(self.folder)
        super().__init__(
            name=str(self.folder),
            classes=tuple(groups),
            keys=[file.relative_to(self.folder).as_posix() for g in groups.values() for file in g],
            labels=[label for label, files in enumerate(groups.values()) for _ in files],
        )

    def open(self, index: int) -> BinaryIO:
        return self._file(index).open("rb")

    def stamp(self, index: int) -> str:
        return stamp_of(self._file(index))

    def caption(self, index: int) -> str:
        beside = self._file(index).with_suffix(".txt")
        if beside.is_file():
            lines = beside.read_text(encoding="utf-8", errors="replace").strip().splitlines()
            if lines:
                return lines[0].strip()
        return in_words(self.keys[index])

    def _file(self, index: int) -> Path:
        return self.folder / self.keys[index]


def _find(folder: Path) -> dict[str, list[Path]]:
    """Class name -> files of a folder, sorted by name."""
    accepted = "accepted are " + ", ".join(SUFFIXES)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"picture folder {str(folder)!r} {what}; give a folder of files ({accepted})"
        )
    loose = _pictures(folder, folder.glob("*"))
    groups = {
        sub.name: _pictures(folder, sub.rglob("*"))
        for sub in sorted(folder.iterdir())
        if sub.is_dir() and not sub.name.startswith(".")
    }
    groups = {name: files for name, files in groups.items() if files}
    if loose and groups:
        raise DataError(
            f"picture folder {str(folder)!r} has {len(loose)} loose picture(s), such as "
            f"{loose[0].name!r}, beside class folders ({', '.join(groups)}): move them into one"
        )
    if loose:
        groups = {folder.resolve().name: loose}
    if not groups:
        raise DataError(f"picture folder {str(folder)!r} holds no pictures ({accepted})")
    return groups


def _pictures(folder: Path, candidates: Iterable[Path]) -> list[Path]:
    """The picture files among the candidates, sorted by name, without hidden ones."""
    found = [
        file
        for file in candidates
        if file.suffix.lower() in SUFFIXES
        and file.is_file()
        and not any(part.startswith(".") for part in file.relative_to(folder).parts)
    ]
    return sorted(found, key=lambda file: file.relative_to(folder).as_posix())
