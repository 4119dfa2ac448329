"""Files that are written whole or not at all, and that last."""

from __future__ import annotations

import os
import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from limner.core.errors import DataError

_STEM = 40  # characters of a name that its temporary file keeps: names may be as long as can be


@contextmanager
def replaced(path: str | os.PathLike[str]) -> Iterator[Path]:
    """Yield a temporary path beside `path` that takes its place when the block ends well.

    It is on the disk by then: after a crash or a power failure the old file is there, or the new
    one. Folders on the way are made.

    Raises:
        DataError: the file cannot be written, on a full disk for instance; the old one is as it
            was.
    """
    target = Path(path).expanduser()
    temporary = target.with_name(f"{_prefix(target)}{uuid.uuid4().hex[:8]}{target.suffix}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        flush(temporary)
        os.replace(temporary, target)
    except OSError as error:
        raise DataError(f"{path} cannot be written: {error.strerror or error}") from None
    finally:
        with suppress(OSError):  # it is gone if all went well
            temporary.unlink()
    flush_folder(target.parent)


def remove_leftovers(path: str | os.PathLike[str]) -> None:
    """Remove the temporary files of a `path` whose writers were killed; nobody may write it now."""
    target = Path(path).expanduser()
    name = re.compile(re.escape(_prefix(target)) + "[0-9a-f]{8}" + re.escape(target.suffix))
    for file in target.parent.iterdir() if target.parent.is_dir() else ():
        if name.fullmatch(file.name):
            with suppress(OSError):
                file.unlink()


def flush(file: Path) -> None:
    """Wait until a file is on the disk."""
    # Windows flushes only what is open for writing
    _flush(file, os.O_RDWR if os.name == "nt" else os.O_RDONLY)


def flush_folder(folder: Path) -> None:
    """Wait until what was put into a folder is on the disk, where the system can say so."""
    if os.name != "nt":
        with suppress(OSError):  # what is there is there; some network drives flush no folders
            _flush(folder, os.O_RDONLY)


def _prefix(target: Path) -> str:
    """How the names of temporary files of a target begin."""
    return f".{target.stem[:_STEM]}."


def _flush(path: Path, flags: int) -> None:
    descriptor = os.open(path, flags)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
