"""Building a token cache: what has been tokenised stays, so a build can be killed at any moment."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from limner.core.config import to_dict
from limner.core.errors import DataError, check
from limner.core.files import remove_leftovers
from limner.core.seeds import seeded
from limner.data.cache_files import (
    META,
    CacheMeta,
    TokenType,
    check_meta,
    facts_file,
    read_json,
    tokens_file,
    write_array,
    write_json,
)
from limner.data.images import to_float
from limner.data.source import decoders
from limner.data.token_cache import CachePlan
from limner.data.unreadable import UNREADABLE, SkipList, Unreadable

Tokenise = Callable[[Tensor], Tensor]
"""Pictures float32 [B, 3, H, W] in [-1, 1], or clips [B, T, 3, H, W], to ids int64 [B, N, C] or
values float [B, N, D]."""


def build_token_cache(
    path: str | os.PathLike[str],
    plan: CachePlan,
    tokenise: Tokenise,
    batch: int = 32,
    rank: int = 0,
    ranks: int = 1,
    unreadable: float = UNREADABLE,
) -> None:
    """Tokenise what a cache still lacks; what it has is kept.

    Args:
        path: folder of the cache; made if it is not there.
        plan: what is tokenised.
        tokenise: pictures or clips to ids or values, see `Tokenise`.
        batch: largest B; more only where one picture has more views.
        rank: number of this process among those that fill the cache together.
        ranks: their number.
        unreadable: share of the pictures that may be unreadable.

    Raises:
        DataError: the folder holds a cache of something else or cannot be written, too many
            pictures cannot be read, or the tokens do not fit the plan.
        ConfigError: a number that is not accepted.
    """
    check(batch >= 1, "batch", batch, "at least 1")
    check(0 <= rank < ranks, "rank", rank, f"at least 0 and below ranks={ranks}")
    folder = Path(path).expanduser()
    begun = (folder / META).exists()
    meta = check_meta(folder, plan.meta()) if begun else plan.meta()
    shards = range(rank, meta.shards, ranks)
    pictures = sum(len(meta.pictures_of(shard)) for shard in shards)
    skipped = SkipList(plan.source.name, pictures, unreadable)
    if not begun:
        write_json(folder / META, to_dict(meta))
    for shard in shards:
        if not facts_file(folder, shard).exists():
            _build_shard(folder, shard, meta, plan, tokenise, batch)
        for index, reason in read_json(facts_file(folder, shard))["skipped"]:
            skipped.add(plan.source.keys[index], Unreadable(reason))
        skipped.report()


def _build_shard(
    folder: Path, shard: int, meta: CacheMeta, plan: CachePlan, tokenise: Tokenise, batch: int
) -> None:
    for file in (tokens_file(folder, shard), facts_file(folder, shard)):
        remove_leftovers(file)
    good: list[int] = []
    skipped: list[tuple[int, str]] = []
    parts = []
    for part, levels in _decoded(plan, meta.pictures_of(shard), max(1, batch // plan.views.views)):
        readable = {i: v for i, v in zip(part, levels) if not isinstance(v, Unreadable)}
        skipped += [(i, v.reason) for i, v in zip(part, levels) if isinstance(v, Unreadable)]
        good += readable
        if readable:
            parts.append(_tokens(torch.stack(list(readable.values())), tokenise, plan.dtype))
    shape: tuple[int, ...] = ()
    if parts:
        whole = np.concatenate(parts)
        shape = whole.shape[1:]
        write_array(tokens_file(folder, shard), whole)
    write_json(facts_file(folder, shard), {"index": good, "skipped": skipped, "shape": shape})


def _decoded(
    plan: CachePlan, pictures: range, size: int
) -> Iterator[tuple[range, list[Tensor | Unreadable]]]:
    """Views of the pictures, some at a time; the next ones are decoded meanwhile."""

    def read(index: int) -> Tensor | Unreadable:
        return plan.source.seen(index, plan.views, seeded(plan.seed, "view", index))

    parts = [pictures[begin : begin + size] for begin in range(0, len(pictures), size)]
    with decoders() as pool:
        coming: list[Future[Tensor | Unreadable]] = []
        for part, after in zip(parts, [*parts[1:], range(0)]):
            present = coming or [pool.submit(read, index) for index in part]
            coming = [pool.submit(read, index) for index in after]
            yield part, [future.result() for future in present]


@torch.no_grad()
def _tokens(levels: Tensor, tokenise: Tokenise, dtype: TokenType) -> np.ndarray:
    """Tokens [n, V, N, C] of uint8 views [n, V, ...], in the type they are kept in."""
    count, views = levels.shape[:2]
    tokens = tokenise(to_float(levels.flatten(0, 1))).detach().cpu()
    if tokens.dim() != 3 or len(tokens) != count * views:
        shape = list(tokens.shape)
        raise DataError(f"tokens of {count * views} pictures must be [B, N, C], not {shape}")
    wanted = np.dtype(dtype)
    if tokens.is_floating_point() == (wanted.kind in "iu"):
        raise DataError(f"{tokens.dtype} tokens cannot be kept as {dtype}")
    kept = tokens.float().numpy() if tokens.is_floating_point() else tokens.numpy()
    if wanted.kind in "iu" and kept.size:
        limits = np.iinfo(wanted)
        if kept.min() < limits.min or kept.max() > limits.max:
            raise DataError(f"ids up to {kept.max()} cannot be kept as {dtype}: take a larger type")
    with np.errstate(over="ignore"):  # looked for below
        kept = kept.astype(wanted)
    if not np.isfinite(kept).all():
        raise DataError(f"some tokens are not finite, or not as {dtype}: look at the tokenizer")
    return kept.reshape(count, views, *tokens.shape[1:])
