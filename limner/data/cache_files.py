"""The files of a token cache.

`meta.json` says what the tokens are of and how they were made.  For every shard of the source's
pictures there are `00000.npy` (tokens [n, V, N, C] of the n readable ones) and `00000.json` (which
pictures those are, and why the others are missing).  Files are renamed into place when they are
whole, the .json last: a shard that has one is done.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, DataError
from limner.core.files import replaced

FORMAT = 1
META = "meta.json"

TokenType = Literal["uint8", "uint16", "int32", "float16", "float32"]


@dataclass(frozen=True)
class CacheMeta:
    """What the tokens of a cache are of, and how they were made.

    Args:
        tokenizer: fingerprint of the tokenizer: changes whenever the tokens it gives may.
        layout: where the tokens stand, in words ("grid 16x16", say).
        source: fingerprint of the pictures.
        pictures: their number, unreadable ones too.
        views: the crops, as their `repr`.
        seed: of random crops.
        dtype: on disk.
        shard: pictures a shard.
        format: of the folder.
    """

    tokenizer: str
    layout: str
    source: str
    pictures: int
    views: str
    seed: int
    dtype: TokenType
    shard: int
    format: int = FORMAT

    @property
    def shards(self) -> int:
        """Number of shards."""
        return -(-self.pictures // self.shard)

    def pictures_of(self, shard: int) -> range:
        """Return which pictures of the source belong to a shard."""
        return range(shard * self.shard, min((shard + 1) * self.shard, self.pictures))


def tokens_file(folder: Path, shard: int) -> Path:
    """Where the tokens of a shard are."""
    return folder / f"{shard:05}.npy"


def facts_file(folder: Path, shard: int) -> Path:
    """Where it says which pictures the tokens of a shard are of."""
    return folder / f"{shard:05}.json"


def read_meta(folder: Path) -> CacheMeta:
    """Return what the cache in a folder is of.

    Raises:
        DataError: there is none, or it is damaged or of another version.
    """
    file = folder / META
    if not file.is_file():
        raise DataError(f"{str(folder)!r} is no token cache: it has no {META}")
    values = read_json(file)
    try:
        meta = from_dict(CacheMeta, values)
    except ConfigError as error:
        raise DataError(damaged(file, error)) from None
    if meta.format != FORMAT:
        raise DataError(f"{str(file)!r} has format {meta.format}; this version reads {FORMAT}")
    return meta


def check_meta(folder: Path, wanted: CacheMeta) -> CacheMeta:
    """Return what the cache in a folder is of; it is cut into shards as it was begun.

    Raises:
        DataError: that is not what is wanted.
    """
    meta = read_meta(folder)
    found = to_dict(meta)
    for name, value in to_dict(wanted).items():
        if name != "shard" and found[name] != value:
            raise DataError(
                f"token cache {str(folder)!r} was made with {name} {found[name]!r}, not {value!r}: "
                "remove it or give another folder"
            )
    return meta


def write_array(file: Path, values: np.ndarray) -> None:
    """Write an array as .npy, whole or not at all."""
    form, values = np.lib.format, np.ascontiguousarray(values)
    with replaced(file) as temporary, temporary.open("wb") as out:
        form.write_array_header_1_0(out, form.header_data_from_array_1_0(values))
        out.write(values.data)  # np.save would not say why it failed


def write_json(file: Path, values: Any) -> None:
    """Write a file that `read_json` reads, whole or not at all."""
    with replaced(file) as temporary:
        temporary.write_text(json.dumps(values, separators=(",", ":")), encoding="utf-8")


def read_json(file: Path) -> Any:
    """Return what a file of a cache says.

    Raises:
        DataError: it cannot be read.
    """
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataError(damaged(file, error)) from None


def damaged(file: Path, why: object) -> str:
    """Text of the error for a file that is not as it was written."""
    return f"{str(file)!r} of a token cache is damaged ({why}): remove the cache and build it again"
