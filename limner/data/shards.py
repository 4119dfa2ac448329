"""Pictures in WebDataset shards: plain tar files, read in place."""

from __future__ import annotations

import io
import json
import os
import re
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from limner.core.errors import DataError
from limner.data.columns import CAPTION, LABEL, check_captions, find_column, number_labels
from limner.data.images import SUFFIXES
from limner.data.source import Source, in_words, stamp_of

_PICTURES = tuple(suffix[1:] for suffix in SUFFIXES)
_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")


@dataclass
class _Sample:
    """The members of a shard that share a name: a picture and what is said about it."""

    key: str
    shard: int
    begin: int = -1
    size: int = 0
    label: object = None
    caption: object = None


class ShardSource(Source):
    """WebDataset shards: tar files in which members that share a name up to its first dot belong
    together.

    Beside the picture, ".cls" (or "label" or "class" in ".json") holds the label and ".txt" (or
    "caption" or "text" in ".json") the caption.  Nothing is unpacked: the shards are read through
    once to find where the pictures lie, and pictures are then read from there in any order.

    Args:
        path: a .tar file, a folder of them, or several as "train-{0000..0146}.tar".

    Raises:
        DataError: a shard is missing, compressed, damaged or holds no pictures.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        where = os.fspath(path)
        self.shards = _find_shards(where)
        samples = [s for number, shard in enumerate(self.shards) for s in _scan(shard, number)]
        if not samples:
            raise DataError(f"{where} holds no pictures (accepted are {', '.join(SUFFIXES)})")
        alone = _RANGE.sub("", Path(where).stem).rstrip("-_. ") or "all"
        classes, labels = number_labels([s.label for s in samples], alone, where)
        super().__init__(where, classes, [s.key for s in samples], labels)
        self._captions = check_captions([s.caption for s in samples], where)
        self._places = [(s.shard, s.begin, s.size) for s in samples]

    def open(self, index: int) -> BinaryIO:
        shard, begin, size = self._places[index]
        with self.shards[shard].open("rb") as file:
            file.seek(begin)
            return io.BytesIO(file.read(size))

    def stamp(self, index: int) -> str:
        shard, begin, size = self._places[index]
        return f"{stamp_of(self.shards[shard])} {begin} {size}"

    def caption(self, index: int) -> str:
        return self._captions[index] or in_words(self.keys[index])


def shards_in(folder: Path) -> list[Path]:
    """The .tar files of a folder, sorted by name, without hidden ones."""
    found = (file for file in folder.iterdir() if file.suffix.lower() == ".tar")
    return sorted((f for f in found if not f.name.startswith(".")), key=lambda file: file.name)


def _find_shards(where: str) -> list[Path]:
    """The tar files that a path stands for."""
    path = Path(where).expanduser()
    if path.is_dir():
        shards = shards_in(path)
        if not shards:
            raise DataError(f"folder {where!r} holds no .tar files")
        return shards
    span = _RANGE.search(str(path))
    shards = [path]
    if span and not path.exists():
        first, last = span.groups()
        numbers = range(int(first), int(last) + 1)
        before, after = str(path)[: span.start()], str(path)[span.end() :]
        shards = [Path(f"{before}{number:0{len(first)}}{after}") for number in numbers]
    missing = [shard.name for shard in shards if not shard.is_file()]
    if missing or not shards:
        raise DataError(f"shard(s) of {where!r} do not exist: {', '.join(missing[:5]) or 'none'}")
    return shards


def _scan(shard: Path, number: int) -> Sequence[_Sample]:
    """The samples of one shard that have a picture, in the order of the shard."""
    samples: dict[str, _Sample] = {}
    try:
        with tarfile.open(shard, "r:") as archive:
            for member in archive:
                folder, _, file = member.name.removeprefix("./").rpartition("/")
                name, _, kind = file.partition(".")
                kind = kind.lower()
                if not member.isfile() or not name:
                    continue
                key = f"{shard.stem}/{folder}/{name}" if folder else f"{shard.stem}/{name}"
                sample = samples.setdefault(key, _Sample(key, number))
                if kind in _PICTURES and sample.begin < 0:
                    sample.begin, sample.size = member.offset_data, member.size
                elif kind in ("cls", "txt", "json"):
                    _describe(sample, kind, _text(archive, member))
    except (tarfile.TarError, OSError, ValueError) as error:
        raise DataError(
            f"shard {str(shard)!r} cannot be read ({error}): it must be a whole, uncompressed .tar "
            "file with UTF-8 texts; get it again or repair it"
        ) from None
    return [sample for sample in samples.values() if sample.begin >= 0]


def _text(archive: tarfile.TarFile, member: tarfile.TarInfo) -> str:
    content = archive.extractfile(member)
    return content.read().decode("utf-8").strip() if content else ""


def _describe(sample: _Sample, kind: str, text: str) -> None:
    """Put what a text member says into its sample; .cls and .txt go before .json."""
    if kind == "cls":
        sample.label = text
    elif kind == "txt":
        sample.caption = text
    else:
        facts = json.loads(text)
        if isinstance(facts, dict):
            label, caption = find_column(facts, LABEL), find_column(facts, CAPTION)
            sample.label = facts[label] if label and sample.label is None else sample.label
            sample.caption = facts[caption] if caption and not sample.caption else sample.caption
