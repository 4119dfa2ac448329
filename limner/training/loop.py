"""A training run from beginning to end, whatever it trains."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from limner.core.stopping import Stop
from limner.training.checkpoint import Checkpoints
from limner.training.distillation import DistillationTask
from limner.training.engine import Engine
from limner.training.generator_task import GeneratorTask
from limner.training.learner import Learner
from limner.training.progress import Moment, Progress, Silent, choose_progress
from limner.training.recipe import DistillationRecipe, Recipe, RunRecipe, TokenizerRecipe
from limner.training.recipe_files import dump_recipe
from limner.training.run import Run, RunFolder
from limner.training.tokenizer_task import TokenizerTask

TaskBuilder = Callable[[Any, RunFolder, Engine], Any]
"""(recipe, folder, engine) -> the task of a run."""


def train(
    recipe: RunRecipe,
    progress: Progress | None = None,
    resume: bool = False,
    task: TaskBuilder | None = None,
) -> Run:
    """Train a generator or a tokenizer as a recipe says.

    What is to be kept is written as soon as it is measured, and the state of the run beside it, so
    little is lost when a run ends early; Ctrl-C or SIGTERM ends it in good order. A budget of steps
    gives the same weights, to the bit, on every run on one machine, however often it was killed and
    resumed. The global seed of torch is set, as fresh weights and dropout draw from it; all else
    has generators of its own.

    Args:
        recipe: from `load_recipe`.
        progress: is told what happens; None: a bar on a terminal, plain lines elsewhere.
        resume: go on with an unfinished run in the recipe's output, if there is one.
        task: what is trained, for recipes of another kind.

    Raises:
        LimnerError: the recipe cannot be followed, or a loss is not finite or diverges.
    """
    engine = _engine(recipe)
    if not engine.is_main:
        progress = Silent()
    progress = progress or choose_progress()
    try:
        with engine.main_first():
            folder = RunFolder(recipe, resume, writes=engine.is_main)
        return _train(
            recipe, (task or _task)(recipe, folder, engine), folder, engine, progress, resume
        )
    finally:
        progress.close()


def _train(
    recipe: RunRecipe,
    task: Any,
    folder: RunFolder,
    engine: Engine,
    progress: Progress,
    resume: bool,
) -> Run:
    progress.say(task.describe())

    def watch(moment: Moment) -> None:
        if engine.is_main:
            folder.log(moment)
        engine.track(moment.values(), moment.step)
        progress.update(moment)

    checkpoints = Checkpoints(folder.path, recipe.checkpoint.keep)
    learner = Learner(recipe, task, engine, checkpoints, watch)
    state = checkpoints.latest() if resume else None
    if state is not None:
        learner.restore(state)
        progress.say(f"going on from step {learner.step}")
    if engine.is_main:
        folder.forget_after(learner.step)
    engine.begin_tracking(recipe.name, {"recipe": dump_recipe(recipe)})
    with Stop() as stop:
        interrupted = learner.run(stop)
    engine.end_tracking()

    part, measured = task.finish(draws=not interrupted)
    metrics: dict[str, Any] = {
        "steps": learner.step,
        "seconds": round(learner.seconds, 1),
        "best_step": learner.best_step,
        **measured,
    }
    if engine.is_main:
        folder.write_metrics(metrics)
    stopped = "stopped by hand: the " if interrupted else "the "
    kept = "best state" if recipe.choose == "best" else "last state measured"
    progress.say(
        f"{stopped}{kept}, of step {learner.best_step} of {learner.step}, is in {folder.path}\n"
        + task.result(metrics)
        + ("\ngo on with --resume" if interrupted else "")
    )
    return Run(folder.path, part, metrics, interrupted)


def prepare_run(recipe: RunRecipe) -> Learner:
    """Return a new run's learner before its first step, for trials; nothing is logged."""
    engine = _engine(recipe)
    folder = RunFolder(recipe, writes=engine.is_main)
    checkpoints = Checkpoints(folder.path, recipe.checkpoint.keep)
    return Learner(recipe, _task(recipe, folder, engine), engine, checkpoints, lambda moment: None)


def _engine(recipe: RunRecipe) -> Engine:
    folder = Path(recipe.output).expanduser() / "trackers"
    return Engine(recipe.device, recipe.precision, recipe.parallel, recipe.trackers, folder)


def _task(
    recipe: RunRecipe, folder: RunFolder, engine: Engine
) -> GeneratorTask | DistillationTask | TokenizerTask:
    if isinstance(recipe, TokenizerRecipe):
        return TokenizerTask(recipe, folder, engine)
    if isinstance(recipe, DistillationRecipe):
        return DistillationTask(recipe, folder, engine)
    assert isinstance(recipe, Recipe)
    return GeneratorTask(recipe, folder, engine)
