"""From two sets of pictures to a result: features, numbers, intervals, and what is worth a note."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

import limner
from limner.core.errors import DataError
from limner.evaluation.features import Described, FeatureSpace, describe
from limner.evaluation.learned import Copies, Learned, agreement, copying
from limner.evaluation.numbers import Comparison
from limner.evaluation.pictures import ArchivePictures, Pictures, check_same_size
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.result import Number, Protocol, Result
from limner.evaluation.samples import SampleSet, Tell, silent
from limner.evaluation.sides import RealSide, facts_of, side_of, side_of_statistics
from limner.metrics.references import Reference, read_reference

BOOTSTRAP = Bootstrap()
LEAST = 6  # pictures of each set: coverage looks at the five nearest others
Real = Pictures | Reference
"""An evaluation set: pictures, or the statistics of a file."""


@dataclass(frozen=True, eq=False)
class Evaluated:
    """What was measured, and pictures to show.

    Args:
        result: numbers and protocol.
        made: the drawn pictures.
        real: the evaluation set; None: statistics without pictures.
        copies: drawn pictures that are nearest to training pictures; None: these are not known.
    """

    result: Result
    made: Described
    real: Described | None
    copies: Copies | None


def open_reference(path: str | Path) -> Real:
    """Open a file as an evaluation set: its statistics, or the pictures of one without any.

    Raises:
        DataError: the file is missing, broken, or holds neither.
    """
    reference = read_reference(path)
    return ArchivePictures(reference) if reference.gaussian is None else reference


def check_fits(real: Real, size: tuple[int, int], space: FeatureSpace, frames: int = 0) -> None:
    """Raise before work starts if pictures of a size cannot be compared with an evaluation set.

    Args:
        real: the evaluation set.
        size: of the pictures, or of the frames of clips.
        space: whose features.
        frames: of the clips; 0: they are pictures.

    Raises:
        DataError: they are too small for the network, the evaluation set is of another size, or its
            statistics are of another network.
    """
    with torch.no_grad():
        shape = (1, frames, 3, *size) if frames else (1, 3, *size)
        black = torch.zeros(shape, dtype=torch.uint8, device=space.device)
        width = space.of(frames).network(black).pooled.shape[1]
    if isinstance(real, Pictures):
        _check_enough(real)
        check_same_size(real, size, frames)
        return
    real.check_size(*size)
    assert real.gaussian is not None
    found = len(real.gaussian.mean)
    if found != width:
        raise DataError(
            f"{real.path} holds statistics of {found} features, and the feature space "
            f"{space.name!r} has {width}: those of ADM's references are of --features inception"
        )


def evaluate(
    made: Pictures,
    real: Real,
    space: FeatureSpace,
    *,
    command: str = "",
    bootstrap: Bootstrap = BOOTSTRAP,
    other: Pictures | None = None,
    learned: Learned | None = None,
    batch: int = 64,
    tell: Tell = silent,
) -> Evaluated:
    """Measure pictures.

    Args:
        made: drawn ones, or clips.
        real: what they are compared with.
        space: whose features.
        command: that does the same, to be kept with the numbers.
        bootstrap: how intervals are found.
        other: real pictures that are not in the evaluation set, see `Comparison`.
        learned: what the generator was trained on, for classifier agreement and copying, which are
            of pictures alone.
        batch: pictures whose features are computed at once.
        tell: is told how far it is.

    Raises:
        DataError: the sets do not fit each other, or cannot be read.
    """
    check_fits(real, made.size, space, made.frames)
    space = space.of(made.frames)
    _check_enough(made)
    looked_at = _pictures_of(real)
    described = None if looked_at is None else describe(looked_at, space, batch, tell)
    drawn = describe(made, space, batch, tell)
    others = None if other is None else describe(other, space, batch, tell)
    if isinstance(real, Reference):
        side = side_of_statistics(real, described)
    else:
        assert described is not None
        side = side_of(described)
    tell("numbers and intervals", 0, 1)
    comparison = Comparison(side, drawn, space, bootstrap, others)
    numbers, notes = comparison.numbers()
    course = comparison.course()
    tell("numbers and intervals", 1, 1)
    more, copies = _of_learned(made, None if made.frames else learned, bootstrap, tell)
    protocol = Protocol(
        command=command,
        limner=limner.__version__,
        features=space.name,
        network=space.fingerprint,
        device=space.device.type,
        made=facts_of(drawn),
        real=side.facts,
        bootstrap=bootstrap,
        drawing=made.drawing if isinstance(made, SampleSet) else None,
    )
    notes = (*notes, *_notes(side, made))
    return Evaluated(Result(protocol, numbers | more, course, notes), drawn, described, copies)


def _check_enough(pictures: Pictures) -> None:
    if len(pictures) < LEAST:
        raise DataError(
            f"{pictures.name} holds {len(pictures)} pictures: at least {LEAST} are needed"
        )


def _pictures_of(real: Real) -> Pictures | None:
    if isinstance(real, Pictures):
        return real
    return None if real.shape is None else ArchivePictures(real)


def _of_learned(
    made: Pictures, learned: Learned | None, bootstrap: Bootstrap, tell: Tell
) -> tuple[dict[str, Number], Copies | None]:
    """Measure what needs the training pictures."""
    if learned is None:
        return {}, None
    tell("classifier and copies", 0, 1)
    pictures = learned.pictures(made.size)
    numbers = {}
    by_class = isinstance(made, SampleSet) and int(made.labels().min()) >= 0
    if by_class and len(pictures.classes) > 1 and learned.classifier_steps > 0:
        assert isinstance(made, SampleSet)
        numbers["class_agreement"] = agreement(made, pictures, learned, bootstrap)
    near, copies = copying(made, pictures, learned, bootstrap)
    tell("classifier and copies", 1, 1)
    return numbers | near, copies


def _notes(side: RealSide, made: Pictures) -> tuple[str, ...]:
    notes = []
    if side.pooled is None:
        notes.append(
            f"{side.facts.name} holds statistics without pictures: the kernel distance, precision, "
            "recall and coverage are not measured"
        )
    if made.frames:
        notes.append("whether clips show their class, or copy others, is not measured")
    return tuple(notes)
