"""What a run's pictures are compared with: a part of the pictures that it knows, or others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from limner.data import Source
from limner.evaluation.evaluate import LEAST, Real
from limner.evaluation.learned import Learned
from limner.evaluation.pictures import Pictures, SourcePictures, some

Part = Literal["held-out", "train", "all"]


@dataclass(frozen=True, eq=False)
class Against:
    """What the pictures of a run are compared with.

    Args:
        real: the evaluation set.
        source: its pictures with their classes and captions; None: it has none.
        other: real pictures that are not in it; None: there are none.
    """

    real: Real
    source: Source | None = None
    other: Pictures | None = None


def against_part(learned: Learned, part: Part, side: int, most: int, drawn: int) -> Against:
    """Take a part of a run's own data as its evaluation set, and measure the other one too.

    Args:
        learned: the run's data.
        part: which of it.
        side: of the pictures, in pixels.
        most: pictures of the evaluation set.
        drawn: pictures that will be drawn: no more of the other part are measured, as distances of
            other counts do not compare.
    """
    whole = learned.source
    train, held_out = whole.split(learned.held_out)
    chosen: Source = {"held-out": held_out, "train": train, "all": whole}[part]
    source = some(chosen, most)
    real = SourcePictures(source, side, f"{whole.name} ({part})")
    if part == "all":
        return Against(real, source)
    other, name = (train, "train") if part == "held-out" else (held_out, "held-out")
    other = some(other, drawn)
    if len(other) < LEAST:
        return Against(real, source)
    return Against(real, source, SourcePictures(other, side, f"{whole.name} ({name})"))
