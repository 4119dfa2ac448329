"""What the tests of this folder have in common: real pictures as tokens, and a training loop."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from limner.core.layout import Layout
from limner.core.tokens import Tokens, from_ids, from_values
from limner.data import load_packaged
from limner.data.pictures import PictureSet
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchKMeans,
    PatchKMeansConfig,
    PatchTokenizer,
)

SIDE = 32


@dataclass(frozen=True, eq=False)
class Lessons:
    """Tokens of real pictures of 32 px, and of those that are held out.

    Args:
        layout: where they stand.
        contents: of the pictures to learn from and of their mirror images, ids or values [B, N, .].
        labels: int64 [B], their classes.
        held_out: the same of pictures that are only measured on.
        held_out_labels: int64 [H].
        classes: names.
    """

    layout: Layout
    contents: Tensor
    labels: Tensor
    held_out: Tensor
    held_out_labels: Tensor
    classes: tuple[str, ...]

    def tokens(self, contents: Tensor) -> Tokens:
        """Return contents as tokens that are all known."""
        make = from_values if contents.is_floating_point() else from_ids
        return make(self.layout, contents)

    def batch(self, size: int, rng: torch.Generator) -> tuple[Tokens, Tensor]:
        """Return random pictures to learn from, and their classes."""
        index = torch.randint(len(self.contents), (size,), generator=rng)
        return self.tokens(self.contents[index]), self.labels[index]

    def examined(self) -> tuple[Tokens, Tensor]:
        """Return all pictures that are held out, and their classes."""
        return self.tokens(self.held_out), self.held_out_labels


def picture_sets(
    classes: Sequence[str] | None = None, whole: int = SIDE
) -> tuple[PictureSet, PictureSet]:
    """Return packaged pictures to learn from and others that are held out.

    Args:
        whole: side of the drawings in pixels, of which the middle 32 x 32 are taken; above 32,
            fewer corners are plain.
    """
    pictures, first = load_packaged(size=whole, classes=classes), (whole - SIDE) // 2
    middle = slice(first, first + SIDE)
    return replace(pictures, pixels=pictures.pixels[..., middle, middle]).split(0.1)


def lessons(
    encode: Callable[[Tensor], Tokens], classes: Sequence[str] | None = None, whole: int = SIDE
) -> Lessons:
    """Return what an encoder makes of the packaged pictures.

    Args:
        encode: float [B, 3, 32, 32] -> tokens.
        whole: see `picture_sets`.
    """
    train, held_out = picture_sets(classes, whole)
    pictures = train.to_float()
    seen, later = encode(torch.cat([pictures, pictures.flip(-1)])), encode(held_out.to_float())
    contents, rest = (
        tokens.values if tokens.ids is None else tokens.ids for tokens in (seen, later)
    )
    assert contents is not None and rest is not None
    labels = train.labels.repeat(2)
    return Lessons(seen.layout, contents, labels, rest, held_out.labels, train.classes)


def fitted(
    tokenizer: PatchTokenizer, classes: Sequence[str] | None = None, whole: int = SIDE
) -> PatchTokenizer:
    """Return a patch tokenizer that is fitted to the pictures that are learned from."""
    train, _ = picture_sets(classes, whole)
    tokenizer.fit(train.to_float(), torch.Generator().manual_seed(0))
    return tokenizer


def latents(patch: int, width: int, classes: Sequence[str] | None = None) -> Lessons:
    """Return whitened linear latents of patches."""
    config = PatchContinuousConfig(patch=patch, width=width)
    return lessons(fitted(PatchContinuous(config), classes).encode, classes)


def codes(patch: int, width: int, count: int, whole: int = SIDE) -> tuple[Lessons, PatchKMeans]:
    """Return k-means codes of patches, and what makes them."""
    tokenizer = PatchKMeans(PatchKMeansConfig(patch=patch, width=width, codebook_size=count))
    fitted(tokenizer, whole=whole)
    return lessons(tokenizer.encode, whole=whole), tokenizer


def as_cosine(rate: float, step: int, steps: int) -> float:
    """Return a rate that warms up and falls as a cosine."""
    warm = min(1.0, 20 * (step + 1) / steps)
    return rate * warm * (1 + math.cos(math.pi * step / steps)) / 2


def learn(
    network: nn.Module,
    loss: Callable[[torch.Generator], Tensor],
    steps: int,
    rate: float = 2e-3,
    seed: int = 0,
    decay: float = 0.02,
    rate_at: Callable[[float, int, int], float] = as_cosine,
) -> None:
    """Train a network by AdamW; then set it to use.

    Args:
        loss: of a batch drawn by a generator.
        rate_at: of (rate, step, steps).
    """
    rng = torch.Generator().manual_seed(seed)
    weights = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(weights, rate, betas=(0.9, 0.95), weight_decay=decay)
    network.train()
    for step in range(steps):
        optimizer.param_groups[0]["lr"] = rate_at(rate, step, steps)
        value = loss(rng)
        optimizer.zero_grad()
        value.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
    network.eval().requires_grad_(False)


def energy_distance(x: Tensor, y: Tensor) -> float:
    """Return the energy distance of two samples [m, D] and [n, D]: 0 for one distribution."""
    x, y = x.double(), y.double()
    apart = 2 * torch.cdist(x, y).mean()
    for own in (x, y):
        apart = apart - torch.cdist(own, own).sum() / (len(own) * (len(own) - 1))
    return float(apart)
