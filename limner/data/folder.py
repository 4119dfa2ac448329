"""Pictures from a folder of files; sub-folders are classes."""

from __future__ import annotations

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO

from limner.core.errors import DataError
from limner.data.images import OTHERS, SUFFIXES
from limner.data.source import Source, in_words, stamp_of

logger = logging.getLogger(__name__)


class FolderSource(Source):
    """A folder of picture files.

    Every sub-folder that holds pictures, at any depth, is a class; without sub-folders all pictures
    are of one class, named as the folder.  A caption is the first line of a .txt file of the same
    name, else the file name in words.  Hidden files are left out, and pictures in formats that are
    not read; the latter are counted and logged.  The order depends on the names alone.

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
        return caption_beside(self._file(index)) or in_words(self.keys[index])

    def _file(self, index: int) -> Path:
        return self.folder / self.keys[index]


class FileSource(Source):
    """One picture file, of a class that is named as its folder.

    Args:
        path: the file.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.file = Path(path).expanduser()
        name = self.file.resolve().parent.name
        super().__init__(str(self.file), (name,), [self.file.name], [0])

    def open(self, index: int) -> BinaryIO:
        return self.file.open("rb")

    def stamp(self, index: int) -> str:
        return stamp_of(self.file)

    def caption(self, index: int) -> str:
        return in_words(self.keys[index])


def caption_beside(file: Path) -> str:
    """Return the first line of the .txt file of the same name; "" where nothing is written."""
    for suffix in (".txt", ".TXT"):
        beside = file.with_suffix(suffix)
        if beside.is_file():
            text = beside.read_text(encoding="utf-8-sig", errors="replace").strip()
            if text:
                return text.splitlines()[0].strip()
    return ""


def _find(folder: Path) -> dict[str, list[Path]]:
    """Class name -> files of a folder, sorted by name."""
    accepted = "accepted are " + ", ".join(SUFFIXES)
    if not folder.is_dir():
        what = "is not a folder" if folder.exists() else "does not exist"
        raise DataError(
            f"picture folder {str(folder)!r} {what}; give a folder of files ({accepted})"
        )
    others: Counter[str] = Counter()
    try:
        loose = _pictures(folder, folder.iterdir(), others)
        groups = {
            sub.name: _pictures(folder, sub.rglob("*"), others)
            for sub in sorted(folder.iterdir(), key=lambda sub: sub.name)
            if sub.is_dir() and not sub.name.startswith(".")
        }
    except OSError as error:
        raise DataError(f"picture folder {str(folder)!r} cannot be read: {error}") from None
    groups = {name: files for name, files in groups.items() if files}
    left_out = ", ".join(f"{count} {suffix}" for suffix, count in others.most_common())
    if loose and groups:
        raise DataError(
            f"picture folder {str(folder)!r} has {len(loose)} loose picture(s), such as "
            f"{loose[0].name!r}, beside class folders ({', '.join(groups)}): move them into one"
        )
    if loose:
        groups = {folder.resolve().name: loose}
    if not groups:
        found = f"; it holds {left_out}: convert them" if left_out else ""
        raise DataError(f"picture folder {str(folder)!r} holds no pictures ({accepted}){found}")
    if left_out:
        logger.warning("%r: %s left out (%s)", str(folder), left_out, accepted)
    return groups


def _pictures(folder: Path, candidates: Iterable[Path], others: Counter[str]) -> list[Path]:
    """The picture files among the candidates, sorted by name, without hidden ones.

    Args:
        folder: that the candidates lie in.
        candidates: files and folders.
        others: counts those in formats that are not read, by suffix.
    """
    found = []
    for file in candidates:
        inner = file.relative_to(folder)
        suffix = file.suffix.lower()
        if any(part.startswith(".") for part in inner.parts) or not file.is_file():
            continue
        if suffix in SUFFIXES:
            found.append((inner.as_posix(), file))
        elif suffix in OTHERS:
            others[suffix] += 1
    return [file for _, file in sorted(found)]
