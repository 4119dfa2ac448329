"""Following a study: every entry is trained, draws and is measured; what was done is kept."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core.config import from_dict, to_dict
from limner.core.errors import LimnerError
from limner.evaluation.against import against_part
from limner.evaluation.asking import asking_for
from limner.evaluation.evaluate import evaluate
from limner.evaluation.features import load_space
from limner.evaluation.learned import MOST_LEARNED, Learned
from limner.evaluation.page import save_evaluation
from limner.evaluation.samples import Drawing, Tell, draw_samples
from limner.hub.save import fingerprint
from limner.make.drawing_cost import DrawingCost, drawing_cost
from limner.make.plans import follows, keep_plan, write_json
from limner.make.study import Entry, Study
from limner.pipeline import Pipeline
from limner.pipeline.device import choose_device
from limner.training import Recipe, load_recipe, train
from limner.training.compute import flops_per_example
from limner.training.loop import prepare_run
from limner.training.prepare import open_data
from limner.training.run import METRICS, RECIPE

PLAN, MEASURED = "plan.yaml", "measured.json"

Say = Callable[[str], None]
"""Is told what happens, a line at a time."""


@dataclass(frozen=True)
class Measured:
    """What became of an entry.

    Args:
        entry: what it is.
        system: family of its generator.
        tokenizer: family of its tokenizer.
        tokens: of a picture.
        parameters: of its generator.
        steps: that it was trained.
        batch: pictures a step.
        seconds: that it was trained, held-out measurements included.
        flops: of its training.
        held_out: losses of held-out pictures, by name.
        settings: that it drew with.
        drawing: what that costs.
        numbers: how good its pictures are, as `limner.evaluation.result.Number` holds them, by
            name.
        circumstances: when, where and by what command it was measured.
    """

    entry: Entry
    system: str
    tokenizer: str
    tokens: int
    parameters: int
    steps: int
    batch: int
    seconds: float
    flops: float
    held_out: dict[str, float]
    settings: dict[str, Any]
    drawing: DrawingCost
    numbers: dict[str, Any]
    circumstances: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Surroundings:
    """Who is told, and what is noted beside measurements.

    Args:
        say: is told what happens.
        counting: makes who is told, within a `with` block, how drawing and measuring go on.
        circumstances: when, where and by what command it is measured.
    """

    say: Say
    counting: Callable[[], AbstractContextManager[Tell]]
    circumstances: Mapping[str, Any]


def check_folders(study: Study, entries: Sequence[Entry], output: Path) -> None:
    """Write the entries' plans into their folders, or check that these are followed there.

    Raises:
        ConfigError: a folder holds something else.
    """
    for entry in entries:
        for needed in study.needed(entry):
            keep_plan(study.plan(needed), output / needed.name / PLAN, "study")


def follow(
    study: Study,
    entries: Sequence[Entry],
    output: Path,
    around: Surroundings,
    finished: Callable[[], None],
) -> dict[str, str]:
    """Train and measure entries, or go on with them; one that fails does not keep the others.

    Args:
        study: whose entries they are.
        entries: those that are wanted.
        output: folder of the study.
        around: who is told.
        finished: called after every entry.

    Returns:
        What went wrong, by the entry's name.

    Raises:
        KeyboardInterrupt: it was stopped by hand: the same call goes on.
    """
    failed: dict[str, str] = {}
    for number, entry in enumerate(entries, start=1):
        file = output / entry.name / MEASURED
        around.say(f"{number}/{len(entries)} {entry.name}" + (": done" if file.is_file() else ""))
        if not file.is_file():
            try:
                write_json(file, to_dict(_measured(study, entry, output, around)))
            except Exception as error:  # hours of other entries may depend on it
                kind = "" if isinstance(error, LimnerError) else f"{type(error).__name__}: "
                failed[entry.name] = f"{kind}{error}"
                around.say(f"{entry.name}: {failed[entry.name]}")
                continue
        finished()
    return failed


def read_measured(study: Study, output: Path) -> list[Measured]:
    """Return what became of all entries that are done, in the order of the study."""
    done = []
    for entry in study.entries:
        file = output / entry.name / MEASURED
        if file.is_file() and follows(study.plan(entry), output / entry.name / PLAN):
            values = json.loads(file.read_text(encoding="utf-8"))
            done.append(from_dict(Measured, values, str(file)))
    return done


def _measured(study: Study, entry: Entry, output: Path, around: Surroundings) -> Measured:
    folder, run = output / entry.name, output / study.trained(entry).name / "run"
    recipe = _trained(study, study.trained(entry), run)
    device = choose_device(recipe.device)
    pipeline = Pipeline.from_pretrained(run, device=device)
    settings = {**pipeline.defaults, **entry.draw}
    learned = Learned(open_data(recipe.data), recipe.data.held_out, study.classifier_steps)
    side = recipe.data.size
    against = against_part(learned, study.part, side, MOST_LEARNED, study.samples)
    asking = asking_for(pipeline, against.source)
    drawing = Drawing(
        pipeline=str(run),
        weights=fingerprint(pipeline.generator),
        dtype="float32",
        asking=asking.rule,
        asked=asking.digest,
        seed=study.seed,
        batch=min(study.batch, study.samples),
        size=pipeline.size,
        frames=pipeline.frames or 0,
        settings=settings,
    )
    samples = folder / "eval" / "samples"
    with around.counting() as tell:
        evaluated = evaluate(
            draw_samples(pipeline, drawing, asking, study.samples, samples, tell),
            against.real,
            load_space("packaged", device=device),
            command=str(around.circumstances.get("command", "")),
            bootstrap=study.bootstrap,
            other=against.other,
            learned=learned,
            tell=tell,
        )
    save_evaluation(evaluated, folder / "eval")
    around.say(f"{entry.name}: timing")
    metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    batch, steps = recipe.budget.batch, metrics["steps"]
    return Measured(
        entry=entry,
        system=str(recipe.model.family or recipe.model.variant),
        tokenizer=str(recipe.tokenizer.family or recipe.tokenizer.variant),
        tokens=len(pipeline.generator.layout(pipeline.tokenizer, *pipeline.size)),
        parameters=metrics["parameters"],
        steps=steps,
        batch=batch,
        seconds=metrics["seconds"],
        flops=float(_flops_of_step(pipeline, recipe)) * steps,
        held_out=metrics["held_out"],
        settings=settings,
        drawing=drawing_cost(pipeline, asking, settings, study.timed, study.seed),
        numbers=to_dict(evaluated.result)["numbers"],
        circumstances=dict(around.circumstances),
    )


def _trained(study: Study, entry: Entry, run: Path) -> Recipe:
    """Train an entry's generator, or go on with it, and return its recipe."""
    if (run / RECIPE).is_file():  # whose steps were fixed when it began
        begun = load_recipe(run, {"output": str(run)})
        assert isinstance(begun, Recipe)
        recipe = begun
        if _is_finished(recipe, run):  # whose last state, which is large, need not be there still
            return recipe
    else:
        recipe = study.recipe(entry, str(run), _budget(study, entry))
    if train(recipe, resume=True).interrupted:
        raise KeyboardInterrupt
    return recipe


def _is_finished(recipe: Recipe, run: Path) -> bool:
    """Return whether a run has used its budget."""
    if not (run / METRICS).is_file():
        return False
    metrics = json.loads((run / METRICS).read_text(encoding="utf-8"))
    return recipe.budget.share(metrics["steps"], metrics["seconds"]) >= 1


def _budget(study: Study, entry: Entry) -> dict[str, Any]:
    """Return an entry's budget; operations become steps, by those of one step."""
    common = study.budget
    if common.flops is None:
        given = {"seconds": common.seconds, "steps": common.steps}
        return {name: value for name, value in given.items() if value is not None}
    with tempfile.TemporaryDirectory() as folder:
        recipe = study.recipe(entry, f"{folder}/trial", {"steps": 1})
        pipeline = prepare_run(recipe).task.pipeline  # type: ignore[attr-defined]
    return {"steps": max(1, round(common.flops / _flops_of_step(pipeline, recipe)))}


def _flops_of_step(pipeline: Pipeline, recipe: Recipe) -> int:
    """Return the operations of a step; as many examples are counted at once as learn at once."""
    budget = recipe.budget
    return flops_per_example(pipeline, budget.batch // budget.pieces) * budget.batch
