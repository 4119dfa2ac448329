"""One way in for sets of pictures, or of clips, that are to be measured."""

from __future__ import annotations

import os
from pathlib import Path

from limner.data import Window, open_clips, open_source
from limner.evaluation.pictures import ArchivePictures, Pictures, SourcePictures
from limner.evaluation.samples import INDEX, read_samples
from limner.metrics.references import read_reference


def open_pictures(
    name: str | os.PathLike[str], side: int | None = None, window: Window | None = None
) -> Pictures:
    """Find a set of pictures or clips.

    Args:
        name: an `.npz` file, the folder of samples that `limner eval` drew, or whatever
            `limner.data.open_source` finds.
        side: see `SourcePictures`; files and samples are never resized.
        window: which frames make a clip, and `limner.data.open_clips` finds them; None: pictures.

    Raises:
        DataError: there is no such set, or it cannot be used.
    """
    path = Path(name).expanduser()
    if (path / INDEX).is_file():
        return read_samples(path)
    if path.suffix.lower() == ".npz":
        return ArchivePictures(read_reference(path))
    if window is not None:
        return SourcePictures(open_clips(name, window), side)
    return SourcePictures(open_source(name), side)
