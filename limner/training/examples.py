"""What is learned from: pictures tokenised once and kept in memory."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.core.request import Conditioner, Request, TextEncoder
from limner.core.row import Condition
from limner.core.seeds import seeded
from limner.core.tokenizer import Tokenizer
from limner.core.tokens import Tokens, stack
from limner.data import PictureSet, load_pictures
from limner.training.parts import build_part
from limner.training.recipe import Recipe

CHUNK = 256  # pictures tokenised, or captions read, at once


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenised pictures and their conditions.

    Args:
        tokens: a batch of N, fully known.
        condition: name -> tensor with a leading N.
    """

    tokens: Tokens
    condition: Condition

    def __len__(self) -> int:
        return len(self.tokens)

    def take(self, index: Tensor, device: torch.device) -> tuple[Tokens, Condition]:
        """Return the examples at int64 [n], on a device."""
        whole = self.tokens
        part = Tokens(
            whole.layout,
            None if whole.ids is None else whole.ids[index],
            None if whole.values is None else whole.values[index],
            whole.known[index],
        )
        condition = {name: value[index].to(device) for name, value in self.condition.items()}
        return part.to(device), condition


@dataclass(frozen=True, eq=False)
class Tokenised:
    """Tokenised pictures, and all that a generator may be told about them.

    Args:
        tokens: a batch of N, fully known.
        labels: int64 [N].
        captions: N texts.
    """

    tokens: Tokens
    labels: Tensor
    captions: tuple[str, ...]

    def asked_of(self, conditioner: Conditioner, encoder: TextEncoder | None) -> Examples:
        """Return the examples under the conditions that a generator makes of them.

        Args:
            conditioner: the generator's; it takes the labels or the captions.
            encoder: reads the captions, for generators on text features.
        """
        parts = []
        for index in torch.arange(len(self.labels)).split(CHUNK):
            if conditioner.by == "class":
                request = Request(len(index), labels=self.labels[index].tolist())
            else:
                captions = [self.captions[i] for i in index.tolist()]
                request = Request(len(index), prompts=captions, encoder=encoder)
            parts.append(conditioner.ask(request))
        joined = {name: torch.cat([part[name].cpu() for part in parts]) for name in parts[0]}
        return Examples(self.tokens, joined)


@dataclass(frozen=True, eq=False)
class Prepared:
    """The data of a run.

    Args:
        tokenizer: fitted or read.
        train: N x views pictures; the first N are as they were given.
        held_out: pictures that are only measured on.
        classes: their names.
    """

    tokenizer: Tokenizer
    train: Tokenised
    held_out: Tokenised
    classes: tuple[str, ...]

    def facts(self) -> dict[str, Any]:
        """Return what a generator's configuration takes from the data, by field name."""
        layout = self.train.tokens.layout
        return {
            "classes": len(self.classes),
            "codebook_size": self.tokenizer.codebook_size,
            "scales": [segment.size[1:] for segment in layout.segments],
            "tokens": len(layout),
            "token_width": self.tokenizer.width,
        }


def prepare(recipe: Recipe, device: torch.device) -> Prepared:
    """Load, split and tokenise the pictures of a recipe.

    Raises:
        DataError: the pictures cannot be used.
        ConfigError: the tokenizer has no weights and cannot be fitted.
    """
    data = recipe.data
    pictures = load_pictures(data.source, data.size, data.classes)
    train, held_out = pictures.split(data.held_out)
    tokenizer = _tokenizer(recipe, train, device)
    rng = seeded(recipe.seed, "augment")
    views = [tokenise(tokenizer, train)]
    for _ in range(data.views - 1):
        augmented = replace(train, pixels=data.augment(train.pixels, rng))
        views.append(tokenise(tokenizer, augmented))
    labels, captions = train.labels.repeat(data.views), train.captions * data.views
    return Prepared(
        tokenizer,
        Tokenised(stack(views), labels, captions),
        Tokenised(tokenise(tokenizer, held_out), held_out.labels, held_out.captions),
        pictures.classes,
    )


@torch.no_grad()
def tokenise(tokenizer: Tokenizer, pictures: PictureSet) -> Tokens:
    """Return the tokens of all pictures, on the CPU."""
    chunks = torch.arange(len(pictures)).split(CHUNK)
    return stack(
        [
            tokenizer.encode(pictures.to_float(chunk).to(tokenizer.device)).to("cpu")
            for chunk in chunks
        ]
    )


def endless_batches(count: int, size: int, rng: torch.Generator) -> Iterator[Tensor]:
    """Yield int64 [size] without end: one shuffle of 0 .. count - 1 after another."""
    left = torch.empty(0, dtype=torch.int64)
    while True:
        left = torch.cat([left, torch.randperm(count, generator=rng)])
        while len(left) >= size:
            yield left[:size]
            left = left[size:]


def _tokenizer(recipe: Recipe, train: PictureSet, device: torch.device) -> Tokenizer:
    tokenizer: Tokenizer = build_part(TOKENIZERS, recipe.tokenizer, {})
    tokenizer.to(device).eval()
    if recipe.tokenizer.weights is not None:
        return tokenizer
    fit = getattr(tokenizer, "fit", None)
    if fit is None:
        name = recipe.tokenizer.family or recipe.tokenizer.variant
        raise ConfigError(
            f"tokenizer {name!r} is not fitted in passing: set tokenizer.weights to a folder with "
            "its trained weights"
        )
    fit(train.to_float(), seeded(recipe.seed, "tokenizer"))
    return tokenizer
