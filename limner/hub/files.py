"""Directories that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from limner.core.errors import CheckpointError
from limner.core.files import flush, flush_folder


@contextmanager
def written_whole(directory: str | Path) -> Iterator[Path]:
    """Yield an empty temporary directory that takes the place of `directory` at the end.

    It is on the disk by then. If the block raises, the temporary directory is removed and
    `directory` is as it was. A directory that exists is replaced only where everything in it is
    written anew, so that no file of the user's is ever lost.

    Raises:
        CheckpointError: the directory holds other files, or cannot be written.
    """
    target = Path(directory).expanduser().resolve()
    if target.exists() and not target.is_dir():
        raise CheckpointError(f"{directory} is a file: choose a new or an empty directory")
    temporary = _beside(target)
    try:
        temporary.mkdir(parents=True)
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written: {error.strerror}") from None
    try:
        yield temporary
        _check_replaceable(target, temporary)
        for path in temporary.rglob("*"):
            flush_folder(path) if path.is_dir() else flush(path)
        flush_folder(temporary)
        _exchange(target, temporary)
    except OSError as error:
        raise CheckpointError(f"{directory} cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    flush_folder(target.parent)


def _check_replaceable(target: Path, new: Path) -> None:
    if not target.exists():
        return
    others = {path.name for path in target.iterdir()} - {path.name for path in new.iterdir()}
    if others:
        shown = ", ".join(sorted(others)[:5])
        raise CheckpointError(
            f"{target} holds other files ({shown}): choose a new or an empty directory"
        )


def _exchange(target: Path, new: Path) -> None:
    """Rename `new` to `target`; what stood there is removed after that, or put back."""
    if not target.exists():
        os.rename(new, target)
        return
    old = _beside(target)
    os.rename(target, old)
    try:
        os.rename(new, target)
    except OSError:
        os.rename(old, target)
        raise
    shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.tmp")
