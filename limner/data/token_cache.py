"""Tokens of a source, computed once and kept on disk."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_args

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import DataError, check
from limner.data.cache_files import (
    CacheMeta,
    TokenType,
    check_meta,
    damaged,
    facts_file,
    read_json,
    read_meta,
    tokens_file,
)
from limner.data.source import Source, check_some
from limner.data.views import Views


@dataclass(frozen=True)
class CachePlan:
    """What is to be tokenised, and how.

    Args:
        source: the pictures.
        views: their crops; each is tokenised.
        tokenizer: fingerprint of the tokenizer: must change whenever the tokens it gives may.
        layout: where the tokens stand, in words ("grid 16x16", say).
        dtype: of the tokens on disk: an integer type that holds every id, or a float type for
            values.
        seed: of random crops.
        shard: pictures a shard; what is lost when a build is killed.

    Raises:
        ConfigError: a value that is not accepted.
        DataError: the source has no pictures.
    """

    source: Source
    views: Views
    tokenizer: str
    layout: str
    dtype: TokenType = "uint16"
    seed: int = 0
    shard: int = 1024

    def __post_init__(self) -> None:
        known = get_args(TokenType)
        check(self.dtype in known, "dtype", self.dtype, f"one of {', '.join(known)}")
        check(self.shard >= 1, "shard", self.shard, "at least 1")
        check_some(self.source)

    def meta(self) -> CacheMeta:
        """Return what `meta.json` says of a cache that follows this plan."""
        return CacheMeta(
            tokenizer=self.tokenizer,
            layout=self.layout,
            source=self.source.fingerprint(),
            pictures=len(self.source),
            views=repr(self.views),
            seed=self.seed,
            dtype=self.dtype,
            shard=self.shard,
        )


class TokenCache:
    """Tokens on disk, mapped into memory: any of them can be read without reading the others.

    It can be pickled for a worker process, which maps the files anew.

    Args:
        path: folder of the cache.
        plan: what the tokens must be of; None: whatever they are of is accepted.

    Attributes:
        meta: what they are of.
        index: int64 [n], the pictures of the source that have tokens, in order.
        skipped: (index, reason) of the pictures that have none.

    Raises:
        DataError: there is no cache, it is of something else, unfinished or damaged.
    """

    def __init__(self, path: str | os.PathLike[str], plan: CachePlan | None = None) -> None:
        self.folder = Path(path).expanduser()
        if plan is not None:
            check_meta(self.folder, plan.meta())
        self.meta = read_meta(self.folder)
        count = self.meta.shards
        done = [shard for shard in range(count) if facts_file(self.folder, shard).exists()]
        if len(done) < count:
            raise DataError(
                f"token cache {str(self.folder)!r} is unfinished, {len(done)} of {count} shards "
                "are there: build it again with the same settings and it goes on"
            )
        facts = [read_json(facts_file(self.folder, shard)) for shard in done]
        self.index = torch.tensor([i for fact in facts for i in fact["index"]], dtype=torch.int64)
        self.skipped = tuple((i, reason) for fact in facts for i, reason in fact["skipped"])
        self._ends = np.cumsum([len(fact["index"]) for fact in facts])
        self._maps: dict[int, np.ndarray] = {}
        shapes = {tuple(fact["shape"]) for fact in facts if fact["index"]}
        if len(shapes) != 1:
            raise DataError(f"token cache {str(self.folder)!r} has shards of shapes {shapes}")
        self._shape = shapes.pop()

    def __len__(self) -> int:
        """Return n, the number of pictures that have tokens."""
        return len(self.index)

    @property
    def views(self) -> int:
        """V, the number of views of each picture."""
        return int(self._shape[0])

    @property
    def shape(self) -> tuple[int, int]:
        """N and C (or D) of one view."""
        return int(self._shape[1]), int(self._shape[2])

    def read(self, index: Tensor, view: Tensor | int = 0) -> Tensor:
        """Read tokens from anywhere in the cache.

        Args:
            index: int64 [B], from 0 to `len(self) - 1`.
            view: int64 [B] or one number, which view of each.

        Returns:
            ids int64 [B, N, C], or values float32 [B, N, D].

        Raises:
            IndexError: a number outside the cache.
        """
        rows = index.cpu().numpy()
        which = np.broadcast_to(np.asarray(view), rows.shape)
        if len(rows) and (rows.min() < 0 or rows.max() >= len(self)):
            raise IndexError(f"index outside the {len(self)} pictures of the token cache")
        is_ids = np.dtype(self.meta.dtype).kind in "iu"
        tokens = np.empty((len(rows), *self.shape), dtype=np.int64 if is_ids else np.float32)
        shards = np.searchsorted(self._ends, rows, side="right")
        for shard in np.unique(shards).tolist():
            mine = shards == shard
            mapped = self._map(shard)
            begin = self._ends[shard] - len(mapped)
            tokens[mine] = mapped[rows[mine] - begin, which[mine]]
        return torch.from_numpy(tokens)

    def __getstate__(self) -> dict[str, Any]:
        # A mapped array would be pickled whole.
        return {**self.__dict__, "_maps": {}}

    def _map(self, shard: int) -> np.ndarray:
        """Tokens [n, V, N, C] of a shard."""
        if shard not in self._maps:
            file = tokens_file(self.folder, shard)
            count = int(self._ends[shard] - (self._ends[shard - 1] if shard else 0))
            try:
                mapped = np.load(file, mmap_mode="r", allow_pickle=False)
            except (OSError, ValueError, EOFError) as error:
                raise DataError(damaged(file, error)) from None
            if mapped.shape != (count, *self._shape) or mapped.dtype != self.meta.dtype:
                raise DataError(damaged(file, f"{mapped.dtype} {mapped.shape}"))
            self._maps[shard] = mapped
        return self._maps[shard]
