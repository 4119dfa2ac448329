"""What can be told of a generator whose training pictures are known: obedience, and copying.

Both look at small copies of the pictures, at most `SIDE` pixels a side.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from limner.core.seeds import seeded
from limner.data import PictureSet, Source
from limner.data.images import to_float, to_levels, to_square
from limner.data.source import collect
from limner.evaluation.classifier import train_classifier
from limner.evaluation.neighbours import nearest_pictures
from limner.evaluation.pictures import Pictures, some
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.result import Number
from limner.evaluation.samples import SampleSet

SIDE = 64
MOST_LEARNED = 50_000  # real pictures that are held in memory
MOST_SEARCHED = 2000  # drawn pictures, and held-out ones, whose nearest is looked for
NEAREST_SHOWN = 10
CLOSE = 0.05
"""Share of held-out pictures that are by definition close to a training picture."""


@dataclass(frozen=True, eq=False)
class Learned:
    """What a generator was trained on.

    Args:
        source: training and held-out pictures together.
        held_out: share that was held out, by the pictures' keys.
        classifier_steps: how long the classifier is trained; 0: there is none.
    """

    source: Source
    held_out: float
    classifier_steps: int = 200

    def pictures(self, size: tuple[int, int]) -> PictureSet:
        """Return small copies of pictures that compare with drawn ones of a size."""
        return collect(some(self.source, MOST_LEARNED), min(*size, SIDE))


@dataclass(frozen=True, eq=False)
class Copies:
    """Drawn pictures and the training pictures nearest to them.

    Args:
        drawn: uint8 [n, 3, s, s], those nearest to a training picture, nearest first.
        nearest: uint8 [n, 3, s, s].
        distances: float [n], see `Neighbours`.
        all_drawn: float [N], distances of all drawn pictures that were looked at, sorted.
        all_real: float [M], those of held-out pictures, sorted.
    """

    drawn: Tensor
    nearest: Tensor
    distances: Tensor
    all_drawn: Tensor
    all_real: Tensor


def agreement(
    made: SampleSet, pictures: PictureSet, learned: Learned, bootstrap: Bootstrap
) -> Number:
    """Measure how often a classifier sees the class that was asked for.

    Args:
        made: drawn pictures whose classes are known.
        pictures: real ones, see `Learned.pictures`.
        learned: what the generator was trained on.
        bootstrap: how the interval is found.
    """
    rng = seeded(bootstrap.seed, "classifier")
    steps, side = learned.classifier_steps, pictures.pixels.shape[-1]
    classifier = train_classifier(pictures, rng, steps=steps, held_out=learned.held_out)
    seen = [classifier.predict(to_float(levels)) for levels in small_copies(made, side)]
    labels = made.labels()
    value = float((torch.cat(seen) == labels).double().mean())
    _, held_out = pictures.split(learned.held_out)
    return Number(
        "classifier agreement",
        value,
        *bootstrap.interval(value, bootstrap.shares(value, len(labels)), most=1.0),
        "as real",
        "drawn pictures",
        {
            "drawn": len(labels),
            "real": len(pictures) - len(held_out),
            "classes": len(pictures.classes),
            "steps": steps,
            "side": side,
        },
        classifier.held_out_accuracy,
        len(held_out),
    )


def copying(
    made: Pictures, pictures: PictureSet, learned: Learned, bootstrap: Bootstrap
) -> tuple[dict[str, Number], Copies]:
    """Measure how near drawn pictures are to those that were learned from.

    Args:
        made: drawn pictures.
        pictures: real ones, see `Learned.pictures`.
        learned: what the generator was trained on.
        bootstrap: how the interval is found.

    Returns:
        The numbers by name, and the pictures.
    """
    train, held_out = pictures.split(learned.held_out)
    side = pictures.pixels.shape[-1]
    drawn = first(small_copies(made, side), MOST_SEARCHED)
    near = nearest_pictures(to_float(drawn), train)
    real = nearest_pictures(held_out.to_float(slice(MOST_SEARCHED)), train).distance
    settings = {
        "drawn": len(drawn),
        "real": len(train),
        "in_data": len(learned.source),
        "side": side,
    }
    shown = near.distance.argsort()[:NEAREST_SHOWN]
    copies = Copies(
        drawn[shown],
        train.pixels[near.index[shown]],
        near.distance[shown],
        near.distance.sort().values,
        real.sort().values,
    )
    return _numbers(near.distance, real, settings, bootstrap), copies


def _numbers(
    drawn: Tensor, real: Tensor, settings: dict[str, Any], bootstrap: Bootstrap
) -> dict[str, Number]:
    """Return what distances of drawn and held-out pictures to the nearest training picture say."""
    count = len(drawn)
    middle = float(drawn.median())
    medians = torch.stack([drawn[index].median() for index in bootstrap.draws(count)])
    limit = real.quantile(CLOSE)
    close, real_close = (float((side < limit).double().mean()) for side in (drawn, real))

    def number(title: str, value: float, interval: tuple[float, float], of_real: float) -> Number:
        over = "drawn pictures"
        return Number(title, value, *interval, "as real", over, settings, of_real, len(real))

    return {
        "copying_distance": number(
            "distance to the nearest training picture (median)",
            middle,
            bootstrap.interval(middle, medians),
            float(real.median()),
        ),
        "close_copies": number(
            f"nearer to a training picture than {1 - CLOSE:.0%} of real ones",
            close,
            bootstrap.interval(close, bootstrap.shares(close, count), most=1.0),
            real_close,
        ),
    }


def small_copies(pictures: Pictures, side: int) -> Iterator[Tensor]:
    """Yield pictures as `collect` reads real ones at a side, uint8 [b, 3, side, side]."""
    for levels in pictures.batches():
        if levels.shape[-2:] == (side, side):
            yield levels
            continue
        images = (Image.fromarray(picture.movedim(0, -1).numpy()) for picture in levels)
        yield torch.stack([to_levels(to_square(image, side)) for image in images])


def first(batches: Iterator[Tensor], count: int) -> Tensor:
    """Return the first pictures of some batches, at most so many."""
    kept: list[Tensor] = []
    for batch in batches:
        kept.append(batch[: count - sum(map(len, kept))])
        if sum(map(len, kept)) == count:
            break
    return torch.cat(kept)
