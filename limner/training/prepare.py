"""From a recipe to what a generator learns from: pictures, tokenizer, tokens on disk."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.layout import Layout
from limner.core.noise import SeededNoise
from limner.core.registry import TOKENIZERS
from limner.core.seeds import seeded
from limner.core.tokenizer import Tokenizer
from limner.data import CachePlan, CentreCrop, TokenCache, Views, build_token_cache, open_source
from limner.data.cache_files import TokenType
from limner.data.source import Source, collect
from limner.hub.save import fingerprint, load_part, save_part
from limner.training.engine import Engine
from limner.training.parts import build_part
from limner.training.recipe import DataRecipe, Recipe

MOST_FITTED = 20_000  # pictures that a tokenizer is fitted on in passing


@dataclass(frozen=True, eq=False)
class Prepared:
    """The data of a run.

    Args:
        tokenizer: fitted or read.
        layout: of its tokens.
        train: pictures to learn from.
        train_tokens: theirs, in all views.
        held_out: pictures that are only measured on.
        held_out_tokens: theirs.
    """

    tokenizer: Tokenizer
    layout: Layout
    train: Source
    train_tokens: TokenCache
    held_out: Source
    held_out_tokens: TokenCache

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes."""
        return self.train.classes

    def facts(self) -> dict[str, Any]:
        """Return what a generator's configuration takes from the data, by field name."""
        return {
            "classes": len(self.classes),
            "styles": max(1, len(self.train.styles)),
            "codebook_size": self.tokenizer.codebook_size,
            "scales": [segment.size[1:] for segment in self.layout.segments],
            "tokens": len(self.layout),
            "token_width": self.tokenizer.width,
            "bits": self.tokenizer.codes,
        }


def split(data: DataRecipe) -> tuple[Source, Source]:
    """Return the pictures to learn from and those held out.

    Raises:
        DataError: the pictures cannot be used.
    """
    return open_source(data.source, data.classes).split(data.held_out)


def prepare(recipe: Recipe, folder: Path, engine: Engine) -> Prepared:
    """Find and split the pictures of a recipe, and tokenise what is not tokenised yet.

    Args:
        folder: of the run: the tokenizer is kept there, and the tokens unless the recipe says
            otherwise.

    Raises:
        DataError: the pictures cannot be used.
        ConfigError: the tokenizer has no weights and cannot be fitted.
    """
    data = recipe.data
    train, held_out = split(data)
    with engine.main_first():
        tokenizer = _tokenizer(recipe, train, folder / "tokenizer", engine)
    layout = tokenizer.layout(data.size, data.size)
    tokens = Path(data.cache).expanduser() if data.cache is not None else folder / "tokens"
    identity = fingerprint(tokenizer)
    views: dict[str, tuple[Source, Views]] = {
        "train": (train, data.crop),
        "held-out": (held_out, CentreCrop(data.size)),
    }
    caches = {
        name: _tokenised(tokens / name, source, crop, tokenizer, identity, recipe, engine)
        for name, (source, crop) in views.items()
    }
    return Prepared(tokenizer, layout, train, caches["train"], held_out, caches["held-out"])


def _tokenised(
    path: Path,
    source: Source,
    crop: Views,
    tokenizer: Tokenizer,
    identity: str,
    recipe: Recipe,
    engine: Engine,
) -> TokenCache:
    """Build a cache, or what it still lacks, with all processes; `identity` is the tokenizer's."""
    size = recipe.data.size
    plan = CachePlan(
        source=source,
        views=crop,
        tokenizer=identity,
        layout=_in_words(tokenizer.layout(size, size)),
        dtype=recipe.data.cache_dtype or token_type(tokenizer),
        seed=recipe.seed,
    )

    def tokenise(pictures: Tensor) -> Tensor:
        noise = SeededNoise(zlib.crc32(pictures.numpy().tobytes())) if tokenizer.width else None
        tokens = tokenizer.encode(pictures.to(tokenizer.device), noise)
        chosen = tokens.ids if tokens.values is None else tokens.values
        assert chosen is not None
        return chosen.cpu()

    build_token_cache(
        path,
        plan,
        tokenise,
        rank=engine.rank,
        ranks=engine.ranks,
        unreadable=recipe.data.unreadable,
    )
    engine.wait()
    return TokenCache(path)  # that it is of this plan was checked when it was built


def token_type(tokenizer: Tokenizer) -> TokenType:
    """Return the smallest type that holds every id of a tokenizer; float32 for values."""
    if tokenizer.width:
        return "float32"
    if tokenizer.codebook_size <= 2**8:
        return "uint8"
    return "uint16" if tokenizer.codebook_size <= 2**16 else "int32"


def _tokenizer(recipe: Recipe, train: Source, kept: Path, engine: Engine) -> Tokenizer:
    """Return the run's tokenizer: the one kept in its folder, or a new one that is kept there."""
    if (kept / "config.json").is_file():
        tokenizer: Tokenizer = load_part(kept, TOKENIZERS, device=engine.device)
        return tokenizer
    tokenizer = build_part(TOKENIZERS, recipe.tokenizer, {})
    tokenizer.to(engine.device).eval()
    if recipe.tokenizer.weights is None:
        fit = getattr(tokenizer, "fit", None)
        if fit is None:
            name = recipe.tokenizer.family or recipe.tokenizer.variant
            raise ConfigError(
                f"tokenizer {name!r} is not fitted in passing: train it by a recipe of its own "
                "(`limner recipes`) and set tokenizer.weights to the folder of that run"
            )
        step = max(1, len(train) // MOST_FITTED)
        data = recipe.data
        chosen = train.at(range(0, len(train), step))
        pictures = collect(chosen, data.size, data.unreadable)
        fit(pictures.to_float(), seeded(recipe.seed, "tokenizer"))
    if engine.is_main:
        save_part(tokenizer, kept)
    return tokenizer


def _in_words(layout: Layout) -> str:
    """Say where tokens stand: "4x4" for a grid, "1x1 2x2 4x4" for a pyramid."""
    return " ".join("x".join(map(str, segment.size[1:])) for segment in layout.segments)
