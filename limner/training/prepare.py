"""From a recipe to what a generator learns from: pictures, tokenizer, tokens on disk."""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError, check
from limner.core.layout import Layout
from limner.core.noise import SeededNoise
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.seeds import seeded
from limner.core.tokenizer import Tokenizer
from limner.data import (
    CachePlan,
    CentreCrop,
    TokenCache,
    Views,
    build_token_cache,
    open_clips,
    open_source,
)
from limner.data.cache_files import TokenType
from limner.data.class_captions import ClassCaptions
from limner.data.source import Source, collect
from limner.hub.build import weightless
from limner.hub.save import fingerprint, load_part, save_part
from limner.training.engine import Engine
from limner.training.parts import build_part
from limner.training.recipe import DataRecipe, Recipe

MOST_FITTED = 20_000  # pictures, or frames, that a tokenizer is fitted on in passing
TOKENISED = 32  # pictures, or frames, at once


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
        """Return what a generator's configuration takes from the data, see `facts_of`."""
        return facts_of(self.train, self.tokenizer, self.layout)


def facts_of(source: Source, tokenizer: Tokenizer, layout: Layout) -> dict[str, Any]:
    """Return what a generator's configuration takes from its data, by field name.

    Args:
        source: the pictures.
        tokenizer: fitted or not.
        layout: of its tokens.
    """
    return {
        "classes": len(source.classes),
        "styles": max(1, len(source.styles)),
        "codebook_size": tokenizer.codebook_size,
        "scales": [segment.size[1:] for segment in layout.segments],
        "tokens": len(layout),
        "token_width": tokenizer.width,
        "bits": tokenizer.codes,
        "frames": layout.extent[0],
        "frame_tokens": len(layout) // layout.extent[0],
    }


def open_data(data: DataRecipe) -> Source:
    """Return all pictures or clips of a recipe, with the captions that it says.

    Raises:
        DataError: the pictures cannot be used.
    """
    if data.window is None:
        source = open_source(data.source, data.classes)
    else:
        source = open_clips(data.source, data.window, data.classes, data.unreadable)
    return ClassCaptions(source) if data.captions == "class" else source


def layout_of(tokenizer: Tokenizer, data: DataRecipe) -> Layout:
    """Return where the tokens stand of a picture, or of a clip, of a recipe.

    Raises:
        ConfigError: the tokenizer takes no such pictures, or clips where they are pictures.
    """
    name, usual = type(tokenizer).__name__, tokenizer.frames
    accepted = f"{usual}, say: {name} is of clips" if usual else f"0: {name} is of pictures"
    check(bool(data.frames) == bool(usual), "data.frames", data.frames, accepted)
    if not usual:
        return tokenizer.layout(data.size, data.size)
    return tokenizer.layout(data.size, data.size, data.frames)


def split(data: DataRecipe) -> tuple[Source, Source]:
    """Return the pictures to learn from and those held out.

    Raises:
        DataError: the pictures cannot be used.
    """
    return open_data(data).split(data.held_out)


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
    layout = layout_of(tokenizer, data)
    _check_generator(recipe, facts_of(train, tokenizer, layout), layout)
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
    plan = CachePlan(
        source=source,
        views=crop,
        tokenizer=identity,
        layout=_in_words(layout_of(tokenizer, recipe.data)),
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
        batch=max(1, TOKENISED // max(1, recipe.data.frames)),
        rank=engine.rank,
        ranks=engine.ranks,
        unreadable=recipe.data.unreadable,
    )
    engine.wait()
    return TokenCache(path)  # that it is of this plan was checked when it was built


def _check_generator(recipe: Recipe, facts: dict[str, Any], layout: Layout) -> None:
    """Raise ConfigError, before clips are tokenised, if a generator cannot learn such tokens."""
    if recipe.data.frames and recipe.model.weights is None:
        with weightless():
            generator = build_part(MODELS, recipe.model, facts)
        generator.check_layout(layout)


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
        data = recipe.data
        layout_of(tokenizer, data)
        step = max(1, len(train) * max(1, data.frames) // MOST_FITTED)
        chosen = train.at(range(0, len(train), step))
        pictures = collect(chosen, data.size, data.unreadable)
        fit(pictures.to_float(), seeded(recipe.seed, "tokenizer"))
    if engine.is_main:
        save_part(tokenizer, kept)
    return tokenizer


def _in_words(layout: Layout) -> str:
    """Say where tokens stand: "4x4", "1x1 2x2 4x4" for a pyramid, "8x4x4" for a clip."""
    first = 0 if layout.extent[0] > 1 else 1
    return " ".join("x".join(map(str, segment.size[first:])) for segment in layout.segments)
