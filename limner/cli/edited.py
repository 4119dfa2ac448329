"""What `limner edit` does to a picture, as the files it writes tell it: enough to do it again."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from limner.core.errors import ConfigError, DataError

if TYPE_CHECKING:
    from limner.pipeline import Result

Verb = Literal["in-paint", "replace-class", "out-paint", "refine", "upscale", "continue"]


@dataclass(frozen=True)
class Edit:
    """One edit.

    Args:
        verb: of `limner edit`, or "continue", which draws a clip from its first frames.
        picture: its file; of "continue", a film as `limner.data.films` reads it.
        mask: its file: white is drawn anew.
        box: top, left, bottom, right of what is drawn anew, as shares of the picture; in place of
            a mask.
        place: row and column of the picture on a larger canvas.
        keep: number of scales that are kept; of "continue", of first frames, None: all there are.
        checksums: SHA-256 of the files, by the fields that name them.

    Raises:
        ConfigError: what the verb needs is not there.
    """

    verb: Verb
    picture: str
    mask: str | None = None
    box: tuple[float, float, float, float] | None = None
    place: tuple[int, int] | None = None
    keep: int | None = None
    checksums: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        masked = self.verb in ("in-paint", "replace-class")
        if masked and (self.mask is None) == (self.box is None):
            raise ConfigError(f"{self.verb} needs a mask or a box, and not both")
        if self.verb == "refine" and self.keep is None:
            raise ConfigError("refine needs keep, the number of scales that are kept")

    @property
    def files(self) -> dict[str, str]:
        """The files by the fields that name them."""
        named = {"picture": self.picture, "mask": self.mask}
        return {name: file for name, file in named.items() if file is not None}


def opened(edit: Edit) -> Callable[..., Result]:
    """Read an edit's files, and return a function that does it as function(pipeline, **asked).

    Raises:
        DataError: a file is missing, or no picture.
        ConfigError: the mask or the box cannot be used; found before anything is loaded.
    """
    if edit.verb == "continue":
        frames = first_frames(edit.picture, edit.keep)
        return lambda pipeline, **asked: pipeline.continue_clip(
            fitted(frames, asked.get("size") or pipeline.size), **asked
        )
    picture = open_image(edit.picture)

    from limner.data.images import to_mask
    from limner.pipeline import box_mask, check_mask

    if edit.verb in ("in-paint", "replace-class"):
        size = (picture.height, picture.width)
        box, file = edit.box, edit.mask or ""
        mask = to_mask(open_image(file)) if box is None else box_mask(box, size)
        check_mask(mask, size)
        return lambda pipeline, **asked: pipeline.edit(picture, mask, **asked)
    if edit.verb == "out-paint":
        return lambda pipeline, **asked: pipeline.out_paint(picture, edit.place, **asked)
    if edit.verb == "refine":
        return lambda pipeline, **asked: pipeline.refine(picture, edit.keep, **asked)
    return lambda pipeline, **asked: pipeline.upscale(picture, edit.keep, **asked)


def checksums(edit: Edit) -> dict[str, str]:
    """Return the SHA-256 of an edit's files, by the fields that name them."""
    return {name: _checksum(Path(file)) for name, file in edit.files.items()}


def check_unchanged(edit: Edit) -> None:
    """Raise DataError if a file of the edit is no longer what it was, or not there."""
    for name, file in edit.files.items():
        if not Path(file).exists():
            raise DataError(f"{file} is missing: it is the {name} of this edit")
    for name, checksum in checksums(edit).items():
        if edit.checksums.get(name) != checksum:
            raise DataError(f"{edit.files[name]} has changed: it is not the {name} of this edit")


def first_frames(path: str, count: int | None) -> list[Any]:
    """Return the first frames of a film as PIL images; all of them by default.

    Raises:
        DataError: it is missing, cannot be read, or has not so many.
        MissingExtra: it is a video, and PyAV is not installed.
    """
    from limner.data.films import open_film
    from limner.data.unreadable import Unreadable

    if not Path(path).exists():
        raise DataError(f"{path} does not exist: give a film, or a folder of frames")
    film = open_film(Path(path))
    length = film.length()
    frames = length if isinstance(length, Unreadable) else film.read(range(count or length))
    if isinstance(frames, Unreadable):
        raise DataError(f"{path} cannot be read: {frames.reason}")
    return frames


def fitted(frames: list[Any], size: tuple[int, int]) -> list[Any]:
    """Return the middles of PIL images, made as high and wide as a size says."""
    from PIL import Image, ImageOps

    lanczos = Image.Resampling.LANCZOS
    return [ImageOps.fit(frame, (size[1], size[0]), lanczos) for frame in frames]


def _checksum(path: Path) -> str:
    """Return the SHA-256 of a file, or of those of the frames in a folder."""
    from limner.data.films import frame_files
    from limner.hub.convert import sha256

    if not path.is_dir():
        return sha256(path)
    told = "".join(f"{file.name} {sha256(file)}\n" for file in frame_files(path))
    return hashlib.sha256(told.encode()).hexdigest()


def open_image(path: str) -> Any:
    """Return a picture's file as a PIL image.

    Raises:
        DataError: it is missing or no picture.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF")) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else None
        ) or "it is no sound picture"
        raise DataError(f"{path} cannot be read: {reason}") from None
