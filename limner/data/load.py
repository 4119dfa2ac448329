"""One way in for pictures: a packaged set by name or a folder by path."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from limner.core.errors import DataError, unknown
from limner.data.folder import load_folder
from limner.data.packaged import list_packaged, load_packaged
from limner.data.pictures import PictureSet


def load_pictures(
    source: str | os.PathLike[str], size: int, classes: Sequence[str] | None = None
) -> PictureSet:
    """Load a packaged set or a folder as size x size pictures.

    Args:
        source: a packaged name ("twemoji") or the path of a folder; write `./twemoji` for a folder
            that has a packaged name.
        size: height and width in pixels.
        classes: only these classes, labelled in this order; all by default.

    Raises:
        DataError: the source or a class is unknown, or the folder cannot be used.
        ConfigError: a size that is not accepted.
    """
    name = os.fspath(source)
    if name in list_packaged():
        return load_packaged(name, size, classes)
    looks_like_path = Path(name).parts[1:] or name.startswith(("~", "."))
    if not looks_like_path and not Path(name).exists():
        raise unknown("picture set or folder", name, list_packaged(), DataError)
    pictures = load_folder(name, size)
    return pictures if classes is None else pictures.only(classes)
