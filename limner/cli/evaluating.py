"""The work of `limner eval`: find the pictures, draw what is missing, measure, and show."""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.cli.asking import SETTINGS, settings_given
from limner.cli.counting import Counting
from limner.cli.parser import UsageError
from limner.cli.pipelines import Loaded, load
from limner.cli.table import print_table
from limner.core.errors import DataError, check
from limner.data import Source, open_source
from limner.evaluation.asking import asking_for
from limner.evaluation.evaluate import (
    LEAST,
    Evaluated,
    Real,
    check_fits,
    evaluate,
    open_reference,
)
from limner.evaluation.features import FeatureSpace, load_space
from limner.evaluation.learned import Learned
from limner.evaluation.load import open_pictures
from limner.evaluation.page import in_figures, save_evaluation
from limner.evaluation.pictures import Pictures, SourcePictures, some
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.samples import Drawing, Tell, draw_samples
from limner.pipeline import Pipeline, find
from limner.pipeline.device import choose_device
from limner.training import load_recipe

RECIPE = "recipe.yaml"


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


def evaluate_sets(arguments: argparse.Namespace, command: str) -> Evaluated:
    """Compare two sets of pictures."""
    bootstrap = Bootstrap(arguments.resamples)
    space = _space(arguments)
    first, second = arguments.given
    real = _limited(open_pictures(first, arguments.size), arguments.most_real)
    made = open_pictures(second)
    check_fits(real, made.size, space)
    with Counting() as counting:
        return evaluate(
            made,
            real,
            space,
            command=command,
            bootstrap=bootstrap,
            batch=arguments.feature_batch,
            tell=counting,
        )


def evaluate_run(arguments: argparse.Namespace, command: str) -> Evaluated:
    """Draw pictures of a run, and compare them with real ones."""
    bootstrap = Bootstrap(arguments.resamples)
    learned = _learned(arguments)
    space = _space(arguments)
    loaded = load(arguments.given[0], arguments.device, arguments.dtype, arguments.text_encoder)
    if learned is not None:
        _check_classes(loaded, learned)
    size = loaded.pipeline.size
    against = _against(arguments, learned, size)
    check_fits(against.real, size, space)
    with Counting() as counting:
        made = _drawn(arguments, loaded, against.source, counting)
        return evaluate(
            made,
            against.real,
            space,
            command=command,
            bootstrap=bootstrap,
            other=against.other,
            learned=learned,
            batch=arguments.feature_batch,
            tell=counting,
        )


def report(evaluated: Evaluated, arguments: argparse.Namespace) -> int:
    """Write everything down, and show the numbers."""
    result = evaluated.result
    page = save_evaluation(evaluated, _output(arguments))
    rows = [
        [
            number.title,
            in_figures(number),
            "-" if number.real is None else f"{number.real:.4g} ({number.real_count})",
        ]
        for number in result.numbers.values()
    ]
    print_table(["", "drawn", "real (how many)"], rows)
    for note in result.notes:
        print(f"limner: note: {note}", file=sys.stderr)
    print(page)
    return 0


def _space(arguments: argparse.Namespace) -> FeatureSpace:
    device = choose_device(arguments.device or "auto")
    return load_space(arguments.features, arguments.weights, device)


def _learned(arguments: argparse.Namespace) -> Learned | None:
    """Return what a run was trained on, as its recipe says; None: nothing is said of that."""
    folder = find(arguments.given[0])
    if not (folder / RECIPE).is_file():
        if arguments.fields:
            raise UsageError(f"{folder} holds no {RECIPE}, whose fields could be changed")
        return None
    data = load_recipe(folder, arguments.fields).data
    if data is None:  # a student learned from its teacher alone
        return None
    source = open_source(data.source, data.classes)
    return Learned(source, data.held_out, arguments.classifier_steps)


def _check_classes(loaded: Loaded, learned: Learned) -> None:
    """Raise unless a pipeline's classes are those of the pictures that it is said to know."""
    known, found = loaded.pipeline.classes, learned.source.classes
    if known != found:
        raise DataError(
            f"{learned.source.name!r} has the classes {', '.join(found)}, and the pipeline knows "
            f"{', '.join(known)}: give the data that it learned from (--data.source)"
        )


def _against(
    arguments: argparse.Namespace, learned: Learned | None, size: tuple[int, int]
) -> Against:
    """Find the evaluation set of a run."""
    chosen = [name for name in ("reference", "real", "set") if getattr(arguments, name) is not None]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are two evaluation sets: give one")
    if arguments.reference is not None:
        return Against(open_reference(arguments.reference))
    side = arguments.size or size[0]
    if arguments.real is not None:
        real = _limited(open_pictures(arguments.real, side), arguments.most_real)
        return Against(real, real.source if isinstance(real, SourcePictures) else None)
    if learned is None:
        raise UsageError(
            f"{arguments.given[0]} holds no {RECIPE} that says what it learned from: give an "
            "evaluation set by --real or --reference"
        )
    return _part(arguments, learned, side)


def _part(arguments: argparse.Namespace, learned: Learned, side: int) -> Against:
    """Take a part of a run's own data as its evaluation set, and measure the other one too."""
    whole = learned.source
    train, held_out = whole.split(learned.held_out)
    chosen: Source = {"held-out": held_out, "train": train, "all": whole}[arguments.set]
    source = some(chosen, arguments.most_real)
    real = SourcePictures(source, side, f"{whole.name} ({arguments.set})")
    if arguments.set == "all":
        return Against(real, source)
    other, name = (train, "train") if arguments.set == "held-out" else (held_out, "held-out")
    # no more than are drawn: distances of other counts do not compare
    other = some(other, arguments.samples)
    if len(other) < LEAST:
        return Against(real, source)
    return Against(real, source, SourcePictures(other, side, f"{whole.name} ({name})"))


def _limited(pictures: Pictures, most: int) -> Pictures:
    if not isinstance(pictures, SourcePictures):
        return pictures
    return SourcePictures(some(pictures.source, most), pictures.side, pictures.name)


def _drawn(
    arguments: argparse.Namespace, loaded: Loaded, real: Source | None, tell: Tell
) -> Pictures:
    """Draw the pictures of a run, or those that are still missing."""
    check(arguments.samples >= LEAST, "samples", arguments.samples, f"{LEAST} or more")
    asking = asking_for(loaded.pipeline, real, arguments.asked)
    drawing = Drawing(
        pipeline=loaded.source,
        weights=loaded.weights,
        dtype=loaded.dtype,
        asking=asking.rule,
        asked=asking.digest,
        seed=arguments.seed,
        batch=min(arguments.batch, arguments.samples),
        size=loaded.pipeline.size,
        settings=_settings(arguments, loaded.pipeline),
    )
    folder = arguments.pictures or _output(arguments) / "samples"
    made = draw_samples(loaded.pipeline, drawing, asking, arguments.samples, folder, tell)
    if arguments.npz is not None:
        made.join(arguments.npz)
    return made


def _settings(arguments: argparse.Namespace, pipeline: Pipeline) -> dict[str, Any]:
    """Return how pictures are drawn, with the defaults of what was left out."""
    settings = pipeline.settled(settings_given(arguments))
    return {name: getattr(settings, name) for name in SETTINGS if name != "size"}


def _output(arguments: argparse.Namespace) -> Path:
    """Return the folder of the result: that of a run is in the run's."""
    if arguments.output is not None:
        return Path(arguments.output).expanduser()
    run = Path(arguments.given[0]).expanduser()
    return run / "eval" if len(arguments.given) == 1 and run.is_dir() else Path("eval")
