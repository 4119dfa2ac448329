"""Pictures from a folder of files; sub-folders are classes."""

from __future__ import annotations

import logging
import os
import struct
import zlib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps, UnidentifiedImageError

from limner.core.errors import DataError, check
from limner.data.images import to_rgb
from limner.data.pictures import PictureSet

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif")
MAX_BROKEN_SHARE = 0.1

# Whatever the suffix says, no other decoder is tried: some of Pillow's start other programs.
_FORMATS = ("PNG", "JPEG", "WEBP", "BMP", "GIF")

# What Pillow's decoders raise on files that are cut off, damaged or no pictures at all.
_BROKEN = (OSError, SyntaxError, ValueError, EOFError, LookupError, struct.error, zlib.error)

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Entry:
    """One file to read: where it lies, its name within the folder and its class."""

    file: Path
    key: str
    label: int


def load_folder(path: str | os.PathLike[str], size: int) -> PictureSet:
    """Load a folder of pictures as size x size RGB.

    Every sub-folder that holds pictures, at any depth, is a class; without sub-folders all pictures
    are of one class, named as the folder.  Pictures are turned upright as their EXIF data says,
    cropped to the centre square and resized; what is transparent becomes white; of animations the
    first frame counts.  A caption is the first line of a .txt file of the same name, else the file
    name in words.  Hidden files are left out.  The order depends on the names alone.

    Args:
        path: the folder.
        size: height and width in pixels.

    Returns:
        The pictures; files that could not be read are listed in `skipped` and logged.

    Raises:
        DataError: the folder is missing or holds no pictures, pictures lie beside class folders,
            more than a tenth of the files cannot be read, or one is too large to be safe.
        ConfigError: a size that is not accepted.
    """
    check(size >= 1, "size", size, "at least 1")
    folder = Path(path).expanduser()
    classes, entries = _find(folder)

    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = list(pool.map(lambda entry: _read(entry.file, size), entries))
    good = [(entry, r) for entry, r in zip(entries, results) if isinstance(r, np.ndarray)]
    skipped = tuple(f"{e.key}: {r}" for e, r in zip(entries, results) if isinstance(r, str))
    _report(folder, skipped, len(entries))

    pixels = torch.from_numpy(np.stack([picture for _, picture in good]))
    return PictureSet(
        pixels=pixels.permute(0, 3, 1, 2).contiguous(),
        labels=torch.tensor([entry.label for entry, _ in good]),
        classes=classes,
        captions=tuple(_caption(entry.file) for entry, _ in good),
        keys=tuple(entry.key for entry, _ in good),
        skipped=skipped,
    )


def _find(folder: Path) -> tuple[tuple[str, ...], list[_Entry]]:
    """Class names and files of a folder, sorted by name."""
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
    entries = [
        _Entry(file, file.relative_to(folder).as_posix(), label)
        for label, files in enumerate(groups.values())
        for file in files
    ]
    return tuple(groups), entries


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


def _read(file: Path, size: int) -> np.ndarray | str:
    """One picture as uint8 [size, size, 3], or the reason why it cannot be read.

    Raises:
        DataError: the picture claims more pixels than Pillow's safety limit.
    """
    limit = Image.MAX_IMAGE_PIXELS
    try:
        with Image.open(file, formats=_FORMATS) as opened:
            if limit is not None and opened.width * opened.height > limit:
                raise Image.DecompressionBombError(f"{opened.width} x {opened.height} pixels")
            picture = to_rgb(ImageOps.exif_transpose(opened))
    except Image.DecompressionBombError as error:
        raise DataError(
            f"picture {str(file)!r} is too large to be safe ({error}): make it smaller than "
            f"{limit} pixels or remove it"
        ) from error
    except UnidentifiedImageError:
        return "no picture in a format that is read"
    except _BROKEN as error:
        return str(error) or type(error).__name__
    return np.asarray(ImageOps.fit(picture, (size, size), Image.Resampling.LANCZOS))


def _caption(file: Path) -> str:
    """First line of the text file beside a picture, else the picture's file name in words."""
    beside = file.with_suffix(".txt")
    if beside.is_file():
        lines = beside.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return lines[0].strip()
    return " ".join(file.stem.replace("_", " ").replace("-", " ").split())


def _report(folder: Path, skipped: tuple[str, ...], total: int) -> None:
    """Log the files that could not be read.

    Raises:
        DataError: they are more than a tenth of all.
    """
    if not skipped:
        return
    shown = "; ".join(skipped[:5]) + ("; ..." if len(skipped) > 5 else "")
    summary = f"{len(skipped)} of {total} pictures in {str(folder)!r} cannot be read: {shown}"
    if len(skipped) > MAX_BROKEN_SHARE * total:
        raise DataError(f"{summary} (more than {MAX_BROKEN_SHARE:.0%}: repair or remove them)")
    logger.warning("%s (skipped)", summary)
