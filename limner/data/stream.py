"""Pictures that are decoded on the fly, in an order that can be picked up anywhere.

An endless stream is a function of the seed and of a position alone: position p shows picture
p mod N of the shuffle of epoch p div N, cropped by a generator that is p's own.  So the position is
all there is to save, and the number of workers and of processes changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from limner.core.errors import DataError, check
from limner.core.seeds import seeded
from limner.data.endless import EndlessOrder
from limner.data.images import to_float
from limner.data.source import Source, check_some
from limner.data.unreadable import UNREADABLE, SkipList, Unreadable
from limner.data.views import Views

MOST_IN_A_ROW = 100  # unreadable pictures that one position passes over before it gives up


@dataclass(frozen=True, eq=False)
class Example:
    """One picture of a stream.

    Args:
        levels: uint8 [3, size, size], or [T, 3, size, size] of a clip.
        label: index into the classes of the source.
        caption: of the picture.
        key: of the picture.
        skipped: key and reason of the pictures that were passed over to get to this one.
    """

    levels: Tensor
    label: int
    caption: str
    key: str
    skipped: tuple[tuple[str, Unreadable], ...] = ()


@dataclass(frozen=True, eq=False)
class PictureBatch:
    """Pictures of a stream.

    Args:
        levels: uint8 [B, 3, size, size], or [B, T, 3, size, size] of clips.
        labels: int64 [B].
        captions: B texts.
        keys: B names.
        skipped: as of the examples.
    """

    levels: Tensor
    labels: Tensor
    captions: tuple[str, ...]
    keys: tuple[str, ...]
    skipped: tuple[tuple[str, Unreadable], ...] = ()

    def __len__(self) -> int:
        return len(self.keys)

    def to_float(self) -> Tensor:
        """Return the pictures as float32 [B, 3, size, size] in [-1, 1]."""
        return to_float(self.levels)


class PictureStream(Dataset[Example]):
    """A source as an endless stream of examples, by position.

    A picture that cannot be read is replaced by the next readable one of its epoch's order.

    Args:
        source: where the pictures come from.
        views: how they are cropped; makes one view of each.
        seed: decides the order and the crops.
        shuffle: False: every epoch in the order of the source.

    Raises:
        ConfigError: `views` makes several of each picture.
        DataError: the source has no pictures.
    """

    def __init__(self, source: Source, views: Views, seed: int = 0, shuffle: bool = True) -> None:
        check(views.views == 1, "views", views, "a crop that makes one view of each picture")
        check_some(source)
        self.source = source
        self.views = views
        self.seed = seed
        self.shuffle = shuffle
        self.order = EndlessOrder(len(source), seed, shuffle)

    def __len__(self) -> int:
        """Return N, the positions in an epoch; positions go on after them."""
        return len(self.source)

    def __getitem__(self, position: int) -> Example:
        """Return the example at a position of at least 0.

        Raises:
            DataError: a picture is too large to be safe, or none of many can be read.
        """
        epoch, place = divmod(position, len(self))
        order = self.order.epoch(epoch)
        skipped: list[tuple[str, Unreadable]] = []
        for step in range(min(len(self), MOST_IN_A_ROW)):
            index = int(order[(place + step) % len(self)])
            seen = self.source.seen(index, self.views, seeded(self.seed, "view", position))
            if not isinstance(seen, Unreadable):
                return Example(
                    seen[0],
                    int(self.source.labels[index]),
                    self.source.caption(index),
                    self.source.keys[index],
                    tuple(skipped),
                )
            skipped.append((self.source.keys[index], seen))
        key, unreadable = skipped[-1]
        raise DataError(
            f"{len(skipped)} pictures in a row in {self.source.name!r} cannot be read, the last of "
            f"them {key}: {unreadable.reason}"
        )


class PictureLoader:
    """Endless batches of a stream; where it stands can be saved and restored exactly.

    The position counts the batches that were handed out, not those that workers hold ready, so
    `state_dict()` taken after a step continues with the batch that the next step would have had.

    Args:
        stream: of pictures.
        batch: pictures a batch, in this process.
        workers: processes that decode; 0: this one does.
        rank: number of this process among those that train together.
        ranks: their number; together they see the stream in batches of `batch * ranks`.
        unreadable: share of the pictures that may be unreadable.

    Raises:
        ConfigError: a number that is not accepted.
    """

    def __init__(
        self,
        stream: PictureStream,
        batch: int,
        workers: int = 0,
        rank: int = 0,
        ranks: int = 1,
        unreadable: float = UNREADABLE,
    ) -> None:
        check(batch >= 1, "batch", batch, "at least 1")
        check(workers >= 0, "workers", workers, "at least 0")
        check(0 <= rank < ranks, "rank", rank, f"at least 0 and below ranks={ranks}")
        self.stream = stream
        self.batch = batch
        self.workers = workers
        self.rank = rank
        self.ranks = ranks
        self.position = 0
        self._skipped = SkipList(stream.source.name, len(stream), unreadable)

    @property
    def skipped(self) -> tuple[str, ...]:
        """Pictures that could not be read so far, each with the reason."""
        return self._skipped.lines

    def __iter__(self) -> Iterator[PictureBatch]:
        """Yield batches without end, from the present position on.

        Raises:
            DataError: too many pictures cannot be read, or one is too large to be safe.
        """
        held = [iter(self._loader())]
        try:
            while True:
                batch = _take(held)
                for key, unreadable in batch.skipped:
                    self._skipped.add(key, unreadable)
                self._skipped.report()
                self.position += self.batch * self.ranks
                yield batch
        finally:
            held.clear()  # the workers end with their iterator, also where an error is kept

    def state_dict(self) -> dict[str, int]:
        """Return where the loader stands: the epoch, the position in it, and what they refer to."""
        epoch, position = divmod(self.position, len(self.stream))
        return {"epoch": epoch, "position": position, **self._identity()}

    def load_state_dict(self, state: dict[str, int]) -> None:
        """Begin the next iteration where `state_dict` was taken; batch size and ranks may differ.

        Raises:
            DataError: the state is of a stream with another seed, shuffling or number of pictures.
        """
        for name, value in self._identity().items():
            if state.get(name) != value:
                raise DataError(
                    f"this position belongs to a stream with {name}={state.get(name)}, and "
                    f"{self.stream.source.name!r} has {name}={value}: start anew or give the same"
                )
        self.position = state["epoch"] * len(self.stream) + state["position"]

    def _identity(self) -> dict[str, int]:
        stream = self.stream
        return {"pictures": len(stream), "seed": stream.seed, "shuffle": stream.shuffle}

    def _loader(self) -> DataLoader[Any]:
        return DataLoader(
            self.stream,
            batch_sampler=self._positions(self.position),
            num_workers=self.workers,
            collate_fn=to_batch,
            # Forked workers break with threads and accelerators, and two systems have none.
            multiprocessing_context="spawn" if self.workers else None,
            # Without one, the loader would draw from the global generator.
            generator=torch.Generator(),
        )

    def _positions(self, begin: int) -> Iterator[list[int]]:
        """The positions of this process's share of every batch."""
        for first in count(begin + self.rank * self.batch, self.batch * self.ranks):
            yield list(range(first, first + self.batch))


def _take(held: Sequence[Iterator[PictureBatch]]) -> PictureBatch:
    """Return the next batch of a loader's iterator, which is held by the caller alone.

    Raises:
        DataError: a picture cannot be used.
    """
    try:
        return next(held[0])
    except DataError as error:
        reason = str(error)
        error.__traceback__ = None  # it holds the iterator, and torch's frames in it hold the error
    # A worker's error comes with its whole trace: the last line says what is wrong.
    marker = f"{DataError.__module__}.{DataError.__name__}: "
    raise DataError(reason.rpartition(marker)[2].strip())


def to_batch(examples: Sequence[Example]) -> PictureBatch:
    """Join examples."""
    return PictureBatch(
        torch.stack([example.levels for example in examples]),
        torch.tensor([example.label for example in examples]),
        tuple(example.caption for example in examples),
        tuple(example.key for example in examples),
        tuple(entry for example in examples for entry in example.skipped),
    )
