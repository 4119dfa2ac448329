"""Token caches: right tokens, resumed builds, random access, and no tokens of anything else."""

from __future__ import annotations

import json
import os
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from limner.core.errors import ConfigError, DataError
from limner.core.seeds import seeded
from limner.data import (
    CachePlan,
    CentreCrop,
    RandomCrop,
    TenCrop,
    TokenCache,
    build_token_cache,
    open_source,
)
from limner.data.images import to_float
from limner.data.unreadable import Unreadable
from tests.disks import file_limit, small_disk

Write = Callable[..., Path]
COUNT = 23


def tokenise(pictures: torch.Tensor) -> torch.Tensor:
    """Four "codes" a picture: the mean of each quarter, in 200 levels."""
    means = torch.nn.functional.adaptive_avg_pool2d(pictures, 2).mean(1).flatten(1)
    return ((means + 1) * 100).long()[..., None]


class Killed(BaseException):
    """What a killed process looks like to its own code."""


class Counting:
    """Counts the pictures it tokenises, and dies after some batches."""

    def __init__(self, batches: int | None = None) -> None:
        self.batches = batches
        self.pictures = 0

    def __call__(self, pictures: torch.Tensor) -> torch.Tensor:
        if self.batches == 0:
            raise Killed
        self.batches = None if self.batches is None else self.batches - 1
        self.pictures += len(pictures)
        return tokenise(pictures)


@pytest.fixture
def folder(tmp_path: Path, write: Write) -> Path:
    for i in range(COUNT):
        write(f"pictures/{i:02}.png", seed=i)
    return tmp_path / "pictures"


def plan_of(folder: Path, **changes: Any) -> CachePlan:
    plan = CachePlan(open_source(folder), TenCrop(8), "vq-1", "grid 2x2", "uint8", shard=5)
    return replace(plan, **changes)


def expected(plan: CachePlan) -> torch.Tensor:
    """Tokens [N, V, 4, 1] without a cache."""
    rows = []
    for i in range(len(plan.source)):
        picture = plan.source.picture(i)
        assert not isinstance(picture, Unreadable)
        rows.append(tokenise(to_float(plan.views(picture, seeded(plan.seed, "view", i)))))
    return torch.stack(rows)


def test_every_view_of_every_picture(tmp_path: Path, folder: Path) -> None:
    plan = plan_of(folder)
    build_token_cache(tmp_path / "cache", plan, tokenise, batch=30)
    cache = TokenCache(tmp_path / "cache", plan)
    assert (len(cache), cache.views, cache.shape) == (COUNT, 10, (4, 1))
    assert cache.index.tolist() == list(range(COUNT)) and cache.skipped == ()
    whole = expected(plan)
    index = torch.tensor([22, 0, 7, 7, 4, 5])
    view = torch.tensor([9, 0, 3, 5, 1, 2])
    tokens = cache.read(index, view)
    assert tokens.dtype == torch.int64 and tokens.equal(whole[index, view])
    assert pickle.loads(pickle.dumps(cache)).read(index, 4).equal(whole[index, 4])
    with pytest.raises(IndexError, match="outside the 23"):
        cache.read(torch.tensor([COUNT]))


def test_pictures_are_not_read_whole(tmp_path: Path, folder: Path) -> None:
    build_token_cache(tmp_path / "cache", plan_of(folder), tokenise)
    cache = TokenCache(tmp_path / "cache")
    cache.read(torch.tensor([0, 6]))
    assert sorted(cache._maps) == [0, 1]
    assert all(isinstance(part, np.memmap) for part in cache._maps.values())
    assert len(pickle.dumps(cache)) < 3000


@pytest.mark.parametrize("batches", [0, 1, 3, 4, 6])
def test_a_killed_build_goes_on(tmp_path: Path, folder: Path, batches: int) -> None:
    plan = plan_of(folder, views=RandomCrop(8, 1, 1.5))
    with pytest.raises(Killed):
        build_token_cache(tmp_path / "cache", plan, Counting(batches), batch=3)
    with pytest.raises(DataError, match=rf"unfinished, {batches // 2} of 5 shards"):
        TokenCache(tmp_path / "cache", plan)
    rest = Counting()
    build_token_cache(tmp_path / "cache", replace(plan, shard=100), rest, batch=3)
    assert rest.pictures == COUNT - 5 * (batches // 2)
    cache = TokenCache(tmp_path / "cache", plan)
    assert cache.read(torch.arange(COUNT)).equal(expected(plan)[:, 0])


@pytest.mark.parametrize("moment", range(8))
def test_killed_while_files_are_written(
    tmp_path: Path, folder: Path, moment: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before or after any of the first renames: the next build makes the same files."""
    plan = plan_of(folder)
    done = []

    def rename(temporary: Path, target: Path) -> None:
        if len(done) == moment // 2 and moment % 2 == 0:
            raise Killed
        Path(temporary).rename(target)
        done.append(target)
        if len(done) == moment // 2 + 1:
            raise Killed

    monkeypatch.setattr(os, "replace", rename)
    with pytest.raises(Killed):
        build_token_cache(tmp_path / "cache", plan, tokenise)
    monkeypatch.undo()
    build_token_cache(tmp_path / "cache", plan, tokenise)
    cache = TokenCache(tmp_path / "cache", plan)
    assert cache.read(torch.arange(COUNT), 5).equal(expected(plan)[:, 5])
    assert len(list((tmp_path / "cache").iterdir())) == 11


def test_ranks_fill_one_cache(tmp_path: Path, folder: Path) -> None:
    plan = plan_of(folder)
    parts = [Counting(), Counting()]
    for rank, part in enumerate(parts):
        build_token_cache(tmp_path / "cache", plan, part, rank=rank, ranks=2)
    assert [part.pictures for part in parts] == [130, 100]
    cache = TokenCache(tmp_path / "cache", plan)
    assert cache.read(torch.arange(COUNT), 2).equal(expected(plan)[:, 2])


def test_values_are_kept_as_floats(tmp_path: Path, folder: Path) -> None:
    plan = plan_of(folder, dtype="float16", views=CentreCrop(8))
    build_token_cache(tmp_path / "cache", plan, lambda pictures: tokenise(pictures) / 8)
    tokens = TokenCache(tmp_path / "cache", plan).read(torch.tensor([3]))
    assert tokens.dtype == torch.float32
    assert torch.allclose(tokens[0], expected(plan)[3, 0] / 8, rtol=1e-3)


def test_tokens_may_lie_in_memory_in_any_order(tmp_path: Path, folder: Path) -> None:
    def turned(pictures: torch.Tensor) -> torch.Tensor:
        return tokenise(pictures).permute(2, 1, 0).contiguous().permute(2, 1, 0)

    plan = plan_of(folder, views=CentreCrop(8), shard=COUNT)
    build_token_cache(tmp_path / "cache", plan, turned)
    assert (
        TokenCache(tmp_path / "cache", plan).read(torch.arange(COUNT)).equal(expected(plan)[:, 0])
    )


def test_a_cache_of_something_else_is_refused(tmp_path: Path, folder: Path) -> None:
    plan = plan_of(folder)
    build_token_cache(tmp_path / "cache", plan, tokenise)
    before = {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}
    others = (
        ("tokenizer", replace(plan, tokenizer="vq-2")),
        ("layout", replace(plan, layout="grid 4x1")),
        ("views", replace(plan, views=TenCrop(8, 1.25))),
        ("views", replace(plan, views=RandomCrop(8, count=10))),
        ("dtype", replace(plan, dtype="uint16")),
        ("seed", replace(plan, seed=1)),
        ("source", replace(plan, source=plan.source.split(0.2)[0])),
    )
    for field, other in others:
        with pytest.raises(DataError, match=f"was made with {field} .*give another folder"):
            TokenCache(tmp_path / "cache", other)
        with pytest.raises(DataError, match=f"was made with {field}"):
            build_token_cache(tmp_path / "cache", other, tokenise)
    assert before == {file: file.stat().st_mtime_ns for file in (tmp_path / "cache").iterdir()}


def test_an_edited_picture_makes_the_cache_stale(tmp_path: Path, folder: Path) -> None:
    build_token_cache(tmp_path / "cache", plan_of(folder), tokenise)
    TokenCache(tmp_path / "cache", plan_of(folder))
    os.utime(folder / "07.png", ns=(1, 1))
    with pytest.raises(DataError, match="was made with source"):
        TokenCache(tmp_path / "cache", plan_of(folder))


def test_unreadable_pictures_have_no_tokens(tmp_path: Path, folder: Path) -> None:
    (folder / "06.png").write_bytes(b"broken")
    plan = plan_of(folder)
    build_token_cache(tmp_path / "cache", plan, tokenise)
    cache = TokenCache(tmp_path / "cache", plan)
    assert len(cache) == COUNT - 1 and 6 not in cache.index.tolist()
    assert cache.skipped == ((6, "no picture in a format that is read"),)
    last = plan.source.picture(COUNT - 1)
    assert not isinstance(last, Unreadable)
    wanted = tokenise(to_float(plan.views(last, torch.Generator())))
    assert cache.read(torch.tensor([COUNT - 2]), 7)[0].equal(wanted[7])


def test_a_shard_may_have_nothing_readable(tmp_path: Path, folder: Path) -> None:
    (folder / "06.png").write_bytes(b"broken")
    plan = plan_of(folder, shard=1)
    build_token_cache(tmp_path / "cache", plan, tokenise)
    cache = TokenCache(tmp_path / "cache", plan)
    assert cache.read(torch.arange(COUNT - 1)).shape == (COUNT - 1, 4, 1)


def test_many_unreadable_pictures_end_the_build(tmp_path: Path, folder: Path) -> None:
    for i in (0, 1, 9):
        (folder / f"{i:02}.png").write_bytes(b"broken")
    work = Counting()
    with pytest.raises(DataError, match=r"3 of 23 .*more than 10%"):
        build_token_cache(tmp_path / "cache", plan_of(folder), work)
    assert work.pictures == 70  # it does not go on to the other shards
    build_token_cache(tmp_path / "cache", plan_of(folder), work, unreadable=0.2)
    assert len(TokenCache(tmp_path / "cache")) == COUNT - 3
    with pytest.raises(ConfigError, match=r"unreadable=-1 .*between 0 and 1"):
        build_token_cache(tmp_path / "new", plan_of(folder), work, unreadable=-1)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("result", "dtype", "message"),
    [
        (lambda p: tokenise(p) + 200, "uint8", "cannot be kept as uint8: take a larger type"),
        (lambda p: tokenise(p) - 300, "uint16", "cannot be kept as uint16"),
        (lambda p: tokenise(p)[..., 0], "uint8", r"must be \[B, N, C\], not \[30, 4\]"),
        (lambda p: tokenise(p) / 2, "uint8", "float32 tokens cannot be kept as uint8"),
        (lambda p: tokenise(p) * 1e6, "float16", "not finite"),
    ],
)
def test_tokens_that_do_not_fit(
    tmp_path: Path, folder: Path, result: Any, dtype: Any, message: str
) -> None:
    with pytest.raises(DataError, match=message):
        build_token_cache(tmp_path / "cache", plan_of(folder, dtype=dtype), result, batch=30)


def test_damage_is_named(tmp_path: Path, folder: Path) -> None:
    cache = tmp_path / "cache"
    with pytest.raises(DataError, match="is no token cache"):
        TokenCache(cache)
    build_token_cache(cache, plan_of(folder), tokenise)
    whole = (cache / "00001.npy").read_bytes()
    (cache / "00001.npy").write_bytes(whole[:-10])
    with pytest.raises(DataError, match=r"00001\.npy' of a token cache is damaged"):
        TokenCache(cache).read(torch.tensor([6]))
    assert len(TokenCache(cache).read(torch.tensor([3]))) == 1
    meta = json.loads((cache / "meta.json").read_text())
    (cache / "meta.json").write_text(json.dumps({**meta, "format": 99}))
    with pytest.raises(DataError, match="format 99"):
        TokenCache(cache)
    (cache / "meta.json").write_text("{")
    with pytest.raises(DataError, match=r"meta\.json' of a token cache is damaged"):
        TokenCache(cache)


def test_a_full_disk_leaves_what_is_done(tmp_path: Path, folder: Path) -> None:
    plan = plan_of(folder, shard=10)
    cache = tmp_path / "cache"

    def large(pictures: torch.Tensor) -> torch.Tensor:
        return tokenise(pictures).repeat(1, 50, 1)

    cache.mkdir()
    with small_disk(cache, 40 * 1024):
        with pytest.raises(DataError, match=r"00001\.npy cannot be written: No space left"):
            build_token_cache(cache, plan, large)
        names = sorted(file.name for file in cache.iterdir())
    assert names == ["00000.json", "00000.npy", "meta.json"]


def test_a_build_goes_on_after_the_disk_was_full(tmp_path: Path, folder: Path) -> None:
    plan, cache = plan_of(folder, shard=10), tmp_path / "cache"
    with file_limit(400), pytest.raises(DataError, match=r"00000\.npy cannot be written"):
        build_token_cache(cache, plan, tokenise)
    assert [file.name for file in cache.iterdir()] == ["meta.json"]
    build_token_cache(cache, plan, tokenise)
    assert TokenCache(cache, plan).read(torch.arange(COUNT), 2).equal(expected(plan)[:, 2])


def test_leftovers_of_a_killed_build_are_removed(tmp_path: Path, folder: Path) -> None:
    cache = tmp_path / "cache"
    cache.mkdir()
    for name in (".00001.0123abcd.npy", ".00002.0123abcd.json"):
        (cache / name).write_bytes(b"half")
    build_token_cache(cache, plan_of(folder), tokenise)
    assert not list(cache.glob(".*"))


def test_bad_numbers_are_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match="dtype"):
        plan_of(folder, dtype="int8")
    with pytest.raises(ConfigError, match="shard"):
        plan_of(folder, shard=0)
