"""Clips cut from films: folders of frames, animated GIFs and videos in a folder."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from limner.core.errors import DataError
from limner.data.clip_source import ClipSource, Window
from limner.data.films import ANIMATIONS, FRAMES, VIDEOS, Film, is_film, open_film
from limner.data.folder import caption_beside
from limner.data.source import decoders, in_words
from limner.data.unreadable import UNREADABLE, SkipList, Unreadable

ACCEPTED = (
    f"folders of frames ({', '.join(FRAMES)}), videos ({', '.join(VIDEOS)}) and animations "
    f"({', '.join(ANIMATIONS)})"
)


@dataclass(frozen=True)
class _Found:
    """A film, what it is called, and its class."""

    film: Film
    key: str
    name: str


class FilmSource(ClipSource):
    """Clips of the films in a folder, or of one film.

    A film is a video file, an animated GIF or a folder that holds pictures. Every sub-folder that
    holds films is a class; films that lie in the folder itself are of one class, named as it. A
    film is cut into as many clips as follow each other in it, from its first frame on; they share
    a key. A caption is the first line of a .txt file of the film's name, else its name in words.

    Args:
        path: the folder, or a film.
        window: which frames make a clip.
        unreadable: share of the films that may be unreadable or too short.

    Raises:
        DataError: there are no films, they lie beside class folders, or too many are unreadable or
            shorter than the window.
        MissingExtra: there are videos, and PyAV is not installed.
    """

    def __init__(
        self, path: str | os.PathLike[str], window: Window, unreadable: float = UNREADABLE
    ) -> None:
        folder = Path(path).expanduser()
        found = _find(folder)
        with decoders() as pool:
            lengths = list(pool.map(lambda each: each.film.length(), found))
        skipped = SkipList(str(folder), len(found), unreadable, noun="videos")
        self._clips: list[tuple[_Found, int]] = []
        for each, length in zip(found, lengths, strict=True):
            length = _long_enough(length, window)
            if isinstance(length, Unreadable):
                skipped.add(each.key, length)
            else:
                begins = range(0, length - window.span + 1, window.span)
                self._clips += [(each, begin) for begin in begins]
        skipped.report()
        self.skipped = skipped.lines
        classes = tuple(dict.fromkeys(each.name for each in found))
        keys = [each.key for each, _ in self._clips]
        labels = [classes.index(each.name) for each, _ in self._clips]
        super().__init__(str(folder), classes, keys, labels, window)

    def frames(self, index: int) -> list[Image.Image] | Unreadable:
        found, begin = self._clips[index]
        return found.film.read(self.window.of(begin))

    def stamp(self, index: int) -> str:
        found, begin = self._clips[index]
        return f"{found.film.stamp()} {self.window.of(begin)}"

    def caption(self, index: int) -> str:
        found, _ = self._clips[index]
        return caption_beside(found.film.path) or in_words(found.key)


def _long_enough(length: int | Unreadable, window: Window) -> int | Unreadable:
    if isinstance(length, Unreadable) or length >= window.span:
        return length
    needed = f"a clip of {window.frames} frames needs {window.span}"
    return Unreadable(f"too short: {needed}, and it has {length}")


def _find(path: Path) -> list[_Found]:
    """Return the films at a path, ordered by name, class after class."""
    if is_film(path):
        name = path.resolve().name if path.is_dir() else path.resolve().parent.name
        return [_Found(open_film(path), path.name, name)]
    if not path.is_dir():
        what = "is no film" if path.exists() else "does not exist"
        raise DataError(f"{str(path)!r} {what}: give a folder of {ACCEPTED}")
    try:
        loose = [sub for sub in _visible(path) if is_film(sub)]
        groups = [
            (sub.name, films)
            for sub in _visible(path)
            if sub.is_dir() and not is_film(sub) and (films := list(_within(sub)))
        ]
    except OSError as error:
        raise DataError(f"folder {str(path)!r} cannot be read: {error}") from None
    if loose and groups:
        names = ", ".join(name for name, _ in groups)
        raise DataError(
            f"folder {str(path)!r} has {len(loose)} loose film(s), such as {loose[0].name!r}, "
            f"beside class folders ({names}): move them into one"
        )
    groups = groups or [(path.resolve().name, loose)]
    if not groups[0][1]:
        raise DataError(f"folder {str(path)!r} holds no films: {ACCEPTED}")
    return [
        _Found(open_film(film), film.relative_to(path).as_posix(), name)
        for name, films in groups
        for film in films
    ]


def _within(folder: Path) -> Iterator[Path]:
    """Yield the films in a folder, at any depth."""
    for sub in _visible(folder):
        if is_film(sub):
            yield sub
        elif sub.is_dir():
            yield from _within(sub)


def _visible(folder: Path) -> Sequence[Path]:
    names = (sub for sub in folder.iterdir() if not sub.name.startswith("."))
    return sorted(names, key=lambda sub: sub.name)
