"""What a generator learns from: pictures tokenised once, and what it is told about them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.layout import Layout
from limner.core.request import Conditioner, Request, TextEncoder
from limner.core.row import Condition
from limner.core.tokens import Tokens, from_ids, from_values
from limner.data import TokenCache
from limner.data.source import Source


@dataclass(frozen=True, eq=False)
class Told:
    """What a generator is told about each picture, and how it takes it.

    Args:
        conditioner: the generator's; it takes some of the following.
        labels: int64 [n].
        styles: int64 [n].
        captions: n texts; empty where it takes none.
        encoder: reads the captions, for generators on text features.
    """

    conditioner: Conditioner
    labels: Tensor
    styles: Tensor
    captions: Sequence[str] = ()
    encoder: TextEncoder | None = None

    def of(self, index: Tensor) -> Condition:
        """Return the condition of pictures, int64 [B]."""
        by = self.conditioner.by
        request = Request(
            count=len(index),
            labels=self.labels[index].tolist() if "class" in by else None,
            prompts=[self.captions[i] for i in index.tolist()] if "prompt" in by else None,
            styles=self.styles[index].tolist() if "style" in by else None,
            encoder=self.encoder,
        )
        return self.conditioner.ask(request)

    def shuffled(self, rng: torch.Generator) -> Told:
        """Return the same under each other's names: what is told is then wrong."""
        order = torch.randperm(len(self.labels), generator=rng)
        captions = [self.captions[i] for i in order.tolist()] if self.captions else ()
        return replace(
            self, labels=self.labels[order], styles=self.styles[order], captions=captions
        )


@dataclass(frozen=True, eq=False)
class Examples:
    """Tokenised pictures and what is told about them; example i is view i mod V of picture i div V.

    Args:
        store: the tokens.
        layout: where they stand.
        told: about the pictures of the store.
        keys: names of the pictures, for messages.
    """

    store: TokenCache
    layout: Layout
    told: Told
    keys: Sequence[str] = ()

    def __len__(self) -> int:
        return len(self.store) * self.store.views

    def take(self, index: Tensor, device: torch.device) -> tuple[Tokens, Condition]:
        """Return the examples at int64 [B], on a device."""
        condition = self.told.of(index // self.store.views)
        moved = {name: value.to(device) for name, value in condition.items()}
        return self.tokens(index).to(device), moved

    def tokens(self, index: Tensor) -> Tokens:
        """Return the tokens of the examples at int64 [B], on the CPU."""
        read = self.store.read(index // self.store.views, index % self.store.views)
        make = from_values if read.is_floating_point() else from_ids
        return make(self.layout, read)

    def retold(self, told: Told) -> Examples:
        """Return the same tokens with something else told about them."""
        return replace(self, told=told)

    def names(self, index: Tensor) -> list[str]:
        """Return what the pictures of examples are called."""
        return [self.keys[i] for i in (index // self.store.views).tolist()]


def examples_of(
    cache: TokenCache,
    source: Source,
    layout: Layout,
    conditioner: Conditioner,
    encoder: TextEncoder | None,
) -> Examples:
    """Return what a generator learns from the pictures of a source that have tokens."""
    index = cache.index.tolist()
    captions = [source.caption(i) for i in index] if "prompt" in conditioner.by else ()
    labels, styles = source.labels[cache.index], source.style[cache.index]
    told = Told(conditioner, labels, styles, captions, encoder)
    return Examples(cache, layout, told, [source.keys[i] for i in index])
