"""The work of `limner eval`: find the pictures, draw what is missing, measure, and show."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from limner.cli.asking import SETTINGS, settings_given
from limner.cli.counting import Counting
from limner.cli.parser import UsageError
from limner.cli.pipelines import Loaded, load
from limner.cli.table import print_table
from limner.core.errors import DataError, check
from limner.data import Source, Window
from limner.evaluation.against import Against, against_part
from limner.evaluation.asking import asking_for
from limner.evaluation.evaluate import (
    LEAST,
    Evaluated,
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
from limner.training.prepare import open_data

RECIPE = "recipe.yaml"


def evaluate_sets(arguments: argparse.Namespace, command: str) -> Evaluated:
    """Compare two sets of pictures."""
    bootstrap = Bootstrap(arguments.resamples)
    space = _space(arguments)
    first, second = arguments.given
    window = _window(arguments, arguments.frames)
    real = _limited(open_pictures(first, arguments.size, window), arguments.most_real)
    made = open_pictures(second, window=window and Window(window.frames))
    check_fits(real, made.size, space, made.frames)
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
    size, frames = loaded.pipeline.size, arguments.frames or loaded.pipeline.frames or 0
    against = _against(arguments, learned, size, _window(arguments, frames))
    check_fits(against.real, size, space, frames)
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
    return Learned(open_data(data), data.held_out, arguments.classifier_steps)


def _check_classes(loaded: Loaded, learned: Learned) -> None:
    """Raise unless a pipeline's classes are those of the pictures that it is said to know."""
    known, found = loaded.pipeline.classes, learned.source.classes
    if known != found:
        raise DataError(
            f"{learned.source.name!r} has the classes {', '.join(found)}, and the pipeline knows "
            f"{', '.join(known)}: give the data that it learned from (--data.source)"
        )


def _against(
    arguments: argparse.Namespace,
    learned: Learned | None,
    size: tuple[int, int],
    window: Window | None,
) -> Against:
    """Find the evaluation set of a run."""
    chosen = [name for name in ("reference", "real", "set") if getattr(arguments, name) is not None]
    if len(chosen) > 1:
        raise UsageError(f"--{chosen[0]} and --{chosen[1]} are two evaluation sets: give one")
    if arguments.reference is not None:
        return Against(open_reference(arguments.reference))
    side = arguments.size or size[0]
    if arguments.real is not None:
        real = _limited(open_pictures(arguments.real, side, window), arguments.most_real)
        return Against(real, real.source if isinstance(real, SourcePictures) else None)
    if learned is None:
        raise UsageError(
            f"{arguments.given[0]} holds no {RECIPE} that says what it learned from: give an "
            "evaluation set by --real or --reference"
        )
    return against_part(learned, arguments.set, side, arguments.most_real, arguments.samples)


def _window(arguments: argparse.Namespace, frames: int | None) -> Window | None:
    """Return which frames make a clip of a film; None: pictures are measured."""
    if arguments.stride is not None and not frames:
        raise UsageError("--stride is not accepted: it is of clips, which have --frames")
    stride = 1 if arguments.stride is None else arguments.stride
    return Window(frames, stride) if frames else None


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
        frames=arguments.frames or loaded.pipeline.frames or 0,
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
    return {name: getattr(settings, name) for name in SETTINGS if name not in ("size", "frames")}


def _output(arguments: argparse.Namespace) -> Path:
    """Return the folder of the result: that of a run is in the run's."""
    if arguments.output is not None:
        return Path(arguments.output).expanduser()
    run = Path(arguments.given[0]).expanduser()
    return run / "eval" if len(arguments.given) == 1 and run.is_dir() else Path("eval")
