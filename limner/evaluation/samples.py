"""Sets of drawn pictures: drawn in batches, kept in shards, gone on with after a kill.

A folder of samples holds `samples.json`, which says what was asked for, and shards of a few hundred
pictures, `.npz` files of `arr_0`, uint8 [n, H, W, 3], and `arr_1`, the classes, int64 [n]. Every
shard is written whole or not at all. Picture i is drawn from seed + i, in a batch that follows from
i alone, so the same plan gives the same pictures however often it is stopped, and a larger set
begins with the smaller one. Of a clip, the picture is its frames in a row.
"""

from __future__ import annotations

import json
import math
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, DataError, check
from limner.core.files import remove_leftovers, replaced
from limner.evaluation.asking import Asking
from limner.evaluation.pictures import Pictures
from limner.metrics.pixels import to_levels
from limner.metrics.references import PICTURES, read_reference
from limner.pipeline import Pipeline
from limner.show.images import in_a_row, out_of_a_row

INDEX = "samples.json"
LABELS = "arr_1"
SHARD = 256  # pictures in a shard, about: what a kill may cost

Tell = Callable[[str, int, int], None]
"""Is told what is going on, how many pictures are done, and of how many."""


def silent(what: str, done: int, total: int) -> None:
    """Tell nobody."""


@dataclass(frozen=True)
class Drawing:
    """All that decides a set of samples but their number.

    Args:
        pipeline: its folder or name.
        weights: their fingerprint.
        dtype: of the generator's weights.
        asking: what is asked for, in words, and
        asked: a fingerprint of it.
        seed: of the first picture.
        batch: pictures drawn at once: products of matrices differ in their last digits with it.
        size: height and width in pixels.
        frames: of clips; 0: pictures are drawn.
        settings: of `limner.pipeline.Settings`; the pipeline has defaults for the others.
    """

    pipeline: str
    weights: str
    dtype: str
    asking: str
    asked: str
    seed: int
    batch: int
    size: tuple[int, int]
    frames: int = 0
    settings: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        check(self.batch >= 1, "batch", self.batch, "1 or more")
        for name, value in self.settings.items():
            plain = value is None or isinstance(value, (int, float, str))
            check(plain, name, value, "a plain value, that samples.json can hold")

    @property
    def shard(self) -> int:
        """Pictures in a whole shard: of whole batches."""
        return self.batch * math.ceil(SHARD / self.batch)


class SampleSet(Pictures):
    """Drawn pictures in a folder.

    Args:
        folder: that holds them.
        drawing: how they were drawn.
        count: pictures; there may be more in the folder.
    """

    def __init__(self, folder: Path, drawing: Drawing, count: int) -> None:
        super().__init__(str(folder), count, drawing.size, drawing.frames)
        self.folder = folder
        self.drawing = drawing

    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        for file, count in self.shards():
            levels = torch.from_numpy(_read(file, PICTURES))[:count].movedim(-1, 1)
            levels = levels.contiguous()
            levels = out_of_a_row(levels, self.frames) if self.frames else levels
            yield from levels.split(batch)

    def labels(self) -> Tensor:
        """Return the classes that were asked for, int64 [N]; -1 where they are not known."""
        parts = [torch.from_numpy(_read(file, LABELS))[:n] for file, n in self.shards()]
        return torch.cat(parts)

    def shards(self) -> Iterator[tuple[Path, int]]:
        """Yield the files, and how many pictures of each belong to the set."""
        step = self.drawing.shard
        for number, begin in enumerate(range(0, self.count, step)):
            yield shard_file(self.folder, number), min(step, self.count - begin)

    def join(self, path: str | Path) -> None:
        """Write all pictures as one `.npz` file, as ADM's evaluator reads it.

        Only a shard at a time is held in memory.

        Raises:
            DataError: it cannot be written.
        """
        if Path(path).suffix != ".npz":
            raise DataError(f"path={str(path)!r} is not accepted: it must end in .npz")
        shape = (self.count, self.size[0], self.size[1] * max(1, self.frames), 3)
        with replaced(path) as temporary, zipfile.ZipFile(temporary, "w") as archive:
            with archive.open(f"{PICTURES}.npy", "w", force_zip64=True) as file:
                header = {"descr": "|u1", "fortran_order": False, "shape": shape}
                np.lib.format.write_array_header_1_0(file, header)
                for shard, count in self.shards():
                    file.write(np.ascontiguousarray(_read(shard, PICTURES)[:count]).data)
            with archive.open(f"{LABELS}.npy", "w") as file:
                np.lib.format.write_array(file, self.labels().numpy())


def draw_samples(
    pipeline: Pipeline,
    drawing: Drawing,
    asking: Asking,
    count: int,
    folder: str | Path,
    tell: Tell = silent,
) -> SampleSet:
    """Draw what the folder does not hold yet.

    Args:
        pipeline: that draws.
        drawing: how.
        asking: what; `drawing` knows it by its fingerprint.
        count: N, pictures.
        folder: new, or of the same drawing.
        tell: is told after every batch.

    Raises:
        ConfigError: a count or setting that is not accepted.
        DataError: the folder holds other samples, or cannot be written.
    """
    check(count >= 1, "samples", count, "1 or more")
    folder = Path(folder).expanduser()
    _claim(folder, drawing)
    samples = SampleSet(folder, drawing, count)
    for number, (file, size) in enumerate(samples.shards()):
        begin = number * drawing.shard
        if _holds(file, size):
            tell("drawing", begin + size, count)
            continue
        remove_leftovers(file)
        batches = []
        # in whole batches even where fewer are asked for: a larger set begins with this one
        for start in range(begin, begin + size, drawing.batch):
            batches.append(_draw(pipeline, drawing, asking, start))
            tell("drawing", min(start + drawing.batch, count), count)
        _write(file, torch.cat(batches)[:size], asking, begin)
    return samples


def read_samples(folder: Path) -> SampleSet:
    """Return all samples in a folder, as far as its shards follow each other.

    Raises:
        DataError: it holds none, or is broken.
    """
    drawing = _read_index(folder / INDEX)
    count, number = 0, 0
    while count == number * drawing.shard and shard_file(folder, number).is_file():
        count += _count(shard_file(folder, number))
        number += 1
    if not count:
        raise DataError(f"{folder} holds no samples yet: draw them with `limner eval`")
    return SampleSet(folder, drawing, count)


def shard_file(folder: Path, number: int) -> Path:
    """Return the path of a shard."""
    return folder / f"shard-{number:05}.npz"


def _draw(pipeline: Pipeline, drawing: Drawing, asking: Asking, start: int) -> Tensor:
    """Draw the batch that begins with picture `start`, uint8 [batch, 3, H, (T) W]."""
    first = drawing.seed + start
    drawn = pipeline(
        **asking.request(start, start + drawing.batch),
        seed=list(range(first, first + drawing.batch)),
        size=drawing.size,
        frames=drawing.frames or None,
        **drawing.settings,
    ).pictures
    drawn = in_a_row(drawn) if drawing.frames else drawn
    return to_levels(drawn).expand(-1, 3, -1, -1)  # grey pictures too become RGB


def _write(file: Path, levels: Tensor, asking: Asking, begin: int) -> None:
    labels = asking.labels(begin, begin + len(levels))
    arrays: dict[str, Any] = {
        PICTURES: levels.movedim(1, -1).numpy(),
        LABELS: np.array(labels, np.int64),
    }
    with replaced(file) as temporary:
        np.savez(temporary, **arrays)


def _claim(folder: Path, drawing: Drawing) -> None:
    """Say in the folder what it holds, or check that it holds just that."""
    file = folder / INDEX
    if not file.is_file():
        if folder.exists() and not _is_empty(folder):
            raise DataError(f"{folder} holds other files: give a new folder for the samples")
        with replaced(file) as temporary:
            temporary.write_text(json.dumps(to_dict(drawing), indent=1) + "\n", encoding="utf-8")
        return
    found, wanted = to_dict(_read_index(file)), to_dict(drawing)
    found.pop("pipeline"), wanted.pop("pipeline")  # it may have moved: its weights tell
    for name, value in wanted.items():
        if found[name] != value:
            raise DataError(
                f"{folder} holds samples of {name}={found[name]!r}, not {value!r}: give another "
                "--output, or remove it"
            )


def _is_empty(folder: Path) -> bool:
    """Say whether nothing is in a folder but what killed writers left there."""
    return folder.is_dir() and all(file.name.startswith(".") for file in folder.iterdir())


def _read_index(file: Path) -> Drawing:
    try:
        return from_dict(Drawing, json.loads(file.read_text(encoding="utf-8")))
    except (OSError, ValueError, ConfigError) as error:
        raise DataError(f"{file} is broken: {error}") from None


def _holds(file: Path, count: int) -> bool:
    """Say whether a shard is there, with so many pictures: the last one of a set may grow."""
    return file.is_file() and _count(file) >= count


def _count(file: Path) -> int:
    shape = read_reference(file).shape
    return 0 if shape is None else shape[0]


def _read(file: Path, name: str) -> np.ndarray:
    try:
        with np.load(file, allow_pickle=False) as archive:
            array: np.ndarray = archive[name]
            return array
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise DataError(f"{file} is broken ({error}): remove it, and it is drawn anew") from None
