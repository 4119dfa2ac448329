"""Films: folders of frames, animated pictures and videos, frame by frame.

Videos are decoded by PyAV, which is installed by `pip install 'limner[video]'`.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from itertools import islice
from pathlib import Path
from typing import Any

from PIL import Image

from limner.core.errors import load_extra
from limner.data.images import SUFFIXES, count_frames, decode, decode_frames
from limner.data.source import stamp_of
from limner.data.unreadable import Unreadable

ANIMATIONS = (".gif",)
VIDEOS = (".mp4", ".m4v", ".mov", ".mkv", ".webm", ".avi", ".mpg", ".mpeg", ".ogv")
FRAMES = tuple(suffix for suffix in SUFFIXES if suffix not in ANIMATIONS)


class Film(ABC):
    """Frames in an order.

    Args:
        path: file or folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @abstractmethod
    def length(self) -> int | Unreadable:
        """Return the number of frames, as far as can be told without decoding them."""

    @abstractmethod
    def read(self, wanted: range) -> list[Image.Image] | Unreadable:
        """Decode some frames as upright RGB.

        Raises:
            DataError: a frame is too large to be safe.
        """

    def stamp(self) -> str:
        """Return a text that changes when the film does."""
        return stamp_of(self.path)


class FrameFolder(Film):
    """A folder of pictures, ordered by name; numbers in names count as numbers."""

    def length(self) -> int | Unreadable:
        return len(self._files()) or Unreadable("no frames")

    def read(self, wanted: range) -> list[Image.Image] | Unreadable:
        files, frames = self._files(), []
        for index in wanted:
            if index >= len(files):
                return Unreadable(f"it ends after {len(files)} frames")
            try:
                with files[index].open("rb") as file:
                    frame = decode(file, str(files[index]))
            except OSError as error:
                frame = _unreadable(error)
            if isinstance(frame, Unreadable):
                return Unreadable(f"{files[index].name}: {frame.reason}")
            frames.append(frame)
        return frames

    def stamp(self) -> str:
        return " ".join(f"{file.name} {stamp_of(file)}" for file in self._files())

    def _files(self) -> list[Path]:
        return frame_files(self.path)


class Animation(Film):
    """An animated picture, or a still one: a film of one frame."""

    def length(self) -> int | Unreadable:
        try:
            with self.path.open("rb") as file:
                return count_frames(file)
        except OSError as error:
            return _unreadable(error)

    def read(self, wanted: range) -> list[Image.Image] | Unreadable:
        try:
            with self.path.open("rb") as file:
                return decode_frames(file, str(self.path), wanted)
        except OSError as error:
            return _unreadable(error)


class Video(Film):
    """A video file; frames in front of those that are wanted are decoded too."""

    def length(self) -> int | Unreadable:
        av = pyav()
        try:
            with av.open(str(self.path)) as container:
                if not container.streams.video:
                    return Unreadable("no video in it")
                stream = container.streams.video[0]
                # not all containers tell it
                return stream.frames or sum(packet.size > 0 for packet in container.demux(stream))
        except (av.error.FFmpegError, OSError, ValueError) as error:
            return _unreadable(error)

    def read(self, wanted: range) -> list[Image.Image] | Unreadable:
        av = pyav()
        frames: list[Image.Image] = []
        try:
            with av.open(str(self.path)) as container:
                decoded = container.decode(video=0)
                for frame in islice(decoded, wanted.start, wanted.stop, wanted.step):
                    frames.append(frame.to_image())
        except (av.error.FFmpegError, OSError, ValueError, IndexError) as error:
            return _unreadable(error)
        if len(frames) < len(wanted):
            return Unreadable("it ends early")
        return frames


def pyav() -> Any:
    """Return the package that decodes and writes videos.

    Raises:
        MissingExtra: it is not installed.
    """
    return load_extra("av", "video", "a video file")


def is_film(path: Path) -> bool:
    """Say whether a path is a film: a video, an animation, or a folder that holds frames.

    Pictures beside videos and animations are no frames.
    """
    if path.is_dir():
        return bool(frame_files(path)) and not any(map(_is_moving, path.iterdir()))
    return _is_moving(path)


def open_film(path: Path) -> Film:
    """Return the film at a path, by its suffix; a single picture is a film of one frame.

    Raises:
        MissingExtra: it is a video, and PyAV is not installed.
    """
    if path.is_dir():
        return FrameFolder(path)
    if path.suffix.lower() in VIDEOS:
        pyav()
        return Video(path)
    return Animation(path)


def frame_files(folder: Path) -> list[Path]:
    """Return the pictures of a folder in the order of a film; hidden files are left out."""
    files = [
        file
        for file in folder.iterdir()
        if file.suffix.lower() in FRAMES and not file.name.startswith(".") and file.is_file()
    ]
    return sorted(files, key=lambda file: _numbered(file.name))


def _is_moving(path: Path) -> bool:
    return path.suffix.lower() in (*VIDEOS, *ANIMATIONS) and path.is_file()


def _numbered(name: str) -> list[tuple[int, str]]:
    """Return what names are ordered by: frame 9 stands before frame 10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts]


def _unreadable(error: Exception) -> Unreadable:
    return Unreadable(getattr(error, "strerror", None) or str(error) or type(error).__name__)
