"""One way in for pictures, whatever they lie in."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from limner.core.errors import DataError, check, unknown
from limner.data import huggingface
from limner.data.clip_source import ClipSource, Window
from limner.data.film_source import FilmSource
from limner.data.folder import FileSource, FolderSource
from limner.data.images import SUFFIXES
from limner.data.joined import JoinedSource
from limner.data.manifest import MANIFESTS, ManifestSource
from limner.data.moving_drawings import MovingDrawings, list_moving
from limner.data.packaged import PackagedSource, list_packaged, load_packaged
from limner.data.pictures import PictureSet
from limner.data.shards import ShardSource, shards_in
from limner.data.source import Source, collect
from limner.data.unreadable import UNREADABLE

JOIN = "+"
KINDS = (
    "a folder of pictures or .tar shards, a picture, a table "
    f"({', '.join(MANIFESTS)}), a .tar shard, a saved Hugging Face dataset or hf:NAME; "
    "or several of these with a + between"
)


def load_pictures(
    source: str | os.PathLike[str],
    size: int,
    classes: Sequence[str] | None = None,
    unreadable: float = UNREADABLE,
) -> PictureSet:
    """Load pictures into memory as size x size RGB, their centre squares.

    They are turned upright as their EXIF data says; what is transparent becomes white.

    Args:
        source: as of `open_source`.
        size: height and width in pixels.
        classes: only these classes, labelled in this order; all by default.
        unreadable: share of the pictures that may be unreadable.

    Returns:
        The pictures; those that could not be read are listed in `skipped` and logged.

    Raises:
        DataError: the source or a class is unknown or cannot be used, too many pictures cannot be
            read, or one is too large to be safe.
        ConfigError: a size that is not accepted.
        MissingExtra: the source needs a package that is not installed.
    """
    check(size >= 1, "size", size, "at least 1")
    name = os.fspath(source)
    if name in list_packaged():
        return load_packaged(name, size, classes)
    return collect(open_source(name, classes), size, unreadable)


def load_folder(path: str | os.PathLike[str], size: int) -> PictureSet:
    """Load a folder of pictures (see `FolderSource`) as `load_pictures` does."""
    check(size >= 1, "size", size, "at least 1")
    return collect(FolderSource(path), size)


def open_source(source: str | os.PathLike[str], classes: Sequence[str] | None = None) -> Source:
    """Find pictures without reading them.

    Args:
        source: one of

            - a packaged name ("twemoji"); write `./twemoji` for a folder that has one
            - a folder of pictures whose sub-folders are classes (`FolderSource`)
            - a picture file (`FileSource`); a few of them with a "+" between
            - a table of files, captions and labels (`ManifestSource`)
            - WebDataset shards: a .tar file, a folder of them or "train-{0000..0146}.tar"
              (`ShardSource`)
            - a saved Hugging Face dataset, or "hf:NAME" or "hf:NAME:SPLIT" (`HuggingFaceSource`)
            - several of these with a "+" between ("twemoji+noto"), each a style (`JoinedSource`)
        classes: only these classes, labelled in this order; all by default.

    Raises:
        DataError: the source or a class is unknown or cannot be used.
        MissingExtra: the source needs a package that is not installed.
    """
    whole = _open(os.fspath(source))
    return whole if classes is None else whole.only(classes)


def open_clips(
    source: str | os.PathLike[str],
    window: Window,
    classes: Sequence[str] | None = None,
    unreadable: float = UNREADABLE,
) -> Source:
    """Find clips; films are asked for their lengths, and not decoded.

    Args:
        source: a packaged name ("moving-twemoji", see `MovingDrawings`), or a folder of videos,
            animated GIFs and folders of frames, or one of these (`FilmSource`).
        window: which frames make a clip.
        classes: only these classes, labelled in this order; all by default.
        unreadable: share of the films that may be unreadable or shorter than the window.

    Raises:
        DataError: the source or a class is unknown or cannot be used, or too many films are
            unreadable or too short.
        MissingExtra: there are videos, and PyAV is not installed.
    """
    whole = _open_clips(os.fspath(source), window, unreadable)
    return whole if classes is None else whole.only(classes)


def _open_clips(name: str, window: Window, unreadable: float) -> ClipSource:
    if name in list_moving():
        return MovingDrawings(name, window)
    path = Path(name).expanduser()
    if path.exists() or path.parts[1:] or path.suffix or name.startswith(("~", ".")):
        return FilmSource(path, window, unreadable)
    raise unknown("set of clips or folder", name, list_moving(), DataError)


def _open(name: str) -> Source:
    path = Path(name).expanduser()
    suffix = path.suffix.lower()
    if name in list_packaged():
        return PackagedSource(name)
    if JOIN in name and not path.exists():
        return JoinedSource([_open(part) for part in name.split(JOIN)])
    if name.startswith(huggingface.PREFIX):
        return huggingface.open_named(name)
    if path.is_dir():
        return _open_folder(path)
    if suffix in MANIFESTS:
        return ManifestSource(path)
    if suffix == ".tar":
        return ShardSource(name)
    if suffix in SUFFIXES and path.is_file():
        return FileSource(path)
    if path.exists():
        raise DataError(f"{name!r} is no set of pictures: give {KINDS}")
    if path.parts[1:] or suffix or name.startswith(("~", ".")):
        raise DataError(f"picture source {name!r} does not exist: give {KINDS}")
    raise unknown("picture set or folder", name, list_packaged(), DataError)


def _open_folder(path: Path) -> Source:
    if huggingface.is_saved(path):
        return huggingface.open_saved(path)
    has_classes = any(sub.is_dir() and not sub.name.startswith(".") for sub in path.iterdir())
    if shards_in(path) and not has_classes:
        return ShardSource(path)
    return FolderSource(path)
