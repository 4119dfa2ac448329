"""Pictures that a tokenizer learns from, batch after batch."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from limner.data import Augment, CentreCrop, PictureLoader, PictureStream
from limner.data.endless import EndlessOrder
from limner.data.source import Source, collect
from limner.data.stream import PictureBatch
from limner.data.views import Shifted, Views
from limner.training.pieces import Share
from limner.training.recipe import DataRecipe

MEMORY = 2 * 2**30  # bytes of pictures that are held decoded


class Feed:
    """Pictures of a source in an endless order, cropped anew each time.

    Crops of the centre (with shifts and flips) are decoded once and held in memory if they fit;
    all else is decoded on the fly, by `workers` processes. Both depend on the step alone.

    Args:
        source: of the pictures.
        data: size, views, workers.
        seed: of the run.
        share: of every batch.
    """

    def __init__(self, source: Source, data: DataRecipe, seed: int, share: Share) -> None:
        crop = data.crop
        self.augment = Augment()
        if isinstance(crop, Shifted):
            self.augment = crop.augment
            crop = CentreCrop(data.size)
        self.share = share
        fits = len(source) * max(1, data.frames) * 3 * data.size**2 <= MEMORY
        held = isinstance(crop, CentreCrop) and fits
        self._pictures: _Held | _Streamed = (
            _Held(source, data, seed) if held else _Streamed(source, crop, data, seed, share)
        )

    def pieces(self, step: int) -> list[Tensor]:
        """Return the pictures of this process's pieces of a step, uint8 [n, 3, H, W] each.

        Clips are [n, T, 3, H, W].
        """
        levels = self._pictures.read(step, self.share.first(step), self.share.size)
        return list(levels.split(self.share.piece_size))

    def names(self, step: int) -> list[str]:
        """Return what the pictures of a step's whole batch are called."""
        return self._pictures.names(step * self.share.batch, self.share.batch)

    def first(self, count: int) -> Tensor:
        """Return about as many pictures of the endless order's beginning, uint8 [n, 3, H, W]."""
        return self._pictures.first(count)


class _Held:
    def __init__(self, source: Source, data: DataRecipe, seed: int) -> None:
        self._set = collect(source, data.size, data.unreadable)
        self._order = EndlessOrder(len(self._set), seed)

    def read(self, step: int, begin: int, count: int) -> Tensor:
        return self._set.pixels[self._order.take(begin, count)]

    def names(self, begin: int, count: int) -> list[str]:
        return [self._set.keys[i] for i in self._order.take(begin, count).tolist()]

    def first(self, count: int) -> Tensor:
        return self.read(0, 0, min(count, len(self._set)))


class _Streamed:
    def __init__(
        self, source: Source, crop: Views, data: DataRecipe, seed: int, share: Share
    ) -> None:
        self._stream = PictureStream(source, crop, seed)
        self._data = data
        self._share = share
        self._next = -1  # step that the open iterator goes on with
        self._batches: Iterator[PictureBatch] = iter(())

    def read(self, step: int, begin: int, count: int) -> Tensor:
        if step != self._next:
            share = self._share
            loader = PictureLoader(
                self._stream,
                count,
                self._data.workers,
                share.rank,
                share.batch // count,
                unreadable=self._data.unreadable,
            )
            loader.position = step * share.batch
            self._batches = iter(loader)
        self._next = step + 1
        return next(self._batches).levels

    def names(self, begin: int, count: int) -> list[str]:
        keys = self._stream.source.keys
        return [keys[i] for i in self._stream.order.take(begin, count).tolist()]

    def first(self, count: int) -> Tensor:
        positions = range(min(count, len(self._stream)))
        return torch.stack([self._stream[position].levels for position in positions])
