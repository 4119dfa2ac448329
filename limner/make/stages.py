"""From a folder of pictures to a model that draws: every stage is kept and can be gone on with."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, check
from limner.core.files import replaced
from limner.data import open_source
from limner.data.survey import survey
from limner.make.machine import look_at_machine
from limner.make.planning import Plan, Wishes, plan
from limner.pipeline import Pipeline
from limner.training import Run, load_recipe, train
from limner.training.loop import prepare_run
from limner.training.recipe import RunRecipe
from limner.training.recipe_files import parse_yaml

Say = Callable[[str], None]
"""Is told what happens, a line at a time."""

PLAN = "plan.yaml"
SHARES = {
    "tokenizer": 0.5,
    "generator": 0.45,
}  # of the time; the rest is for looking and the report
TRIAL = 5  # steps that are timed


@dataclass(frozen=True, eq=False)
class Made:
    """What was made.

    Args:
        directory: of everything; `Pipeline.from_pretrained` loads it.
        plan: what was chosen.
        found: what the pictures are like, in lines.
        tokenizer: its run.
        generator: its run.
    """

    directory: Path
    plan: Plan
    found: tuple[str, ...]
    tokenizer: Run
    generator: Run

    @property
    def pipeline(self) -> Pipeline:
        """What draws."""
        return self.generator.pipeline


@dataclass(frozen=True)
class Planned:
    """What is kept of the first stage.

    Args:
        source: of the pictures.
        found: what the pictures are like, in lines.
        plan: what was chosen.
    """

    source: str
    found: tuple[str, ...]
    plan: Plan


def look(source: str, output: Path, wishes: Wishes, say: Say, device: str = "auto") -> Planned:
    """Look at the pictures, choose, and write down what was chosen; or read what was before.

    Raises:
        DataError: the pictures cannot be used.
        ConfigError: a wish that is not accepted, or the folder was made of something else.
    """
    file = output / PLAN
    if file.is_file():
        planned = _read(file)
        check(
            planned.source == source, "output", str(output), f"another: it is of {planned.source}"
        )
        say(f"going on in {output}, as planned there")
        return planned
    _check_empty(output)
    looked = survey(open_source(source))
    machine = look_at_machine(device)
    planned = Planned(source, tuple(looked.lines()), plan(source, looked, machine, output, wishes))
    for line in planned.found:
        say(line)
    for choice, reason in planned.plan.reasons:
        say(f"  {choice}: {reason}")
    with replaced(file) as temporary:
        text = yaml.safe_dump(to_dict(planned), sort_keys=False, allow_unicode=True)
        temporary.write_text(text, encoding="utf-8")
    return planned


def make(planned: Planned, output: Path, say: Say) -> Made | None:
    """Train the tokenizer and the generator, or go on with them.

    Returns:
        What was made; None if it was stopped by hand: the same call goes on.

    Raises:
        LimnerError: a recipe cannot be followed, or a training fails.
    """
    runs = {}
    for number, name in enumerate(SHARES, start=1):
        recipe = recipe_of(planned.plan, name, output, say)
        say(f"{number}/2 {name}")
        runs[name] = train(recipe, resume=True)
        if runs[name].interrupted:
            return None
    return Made(output, planned.plan, planned.found, runs["tokenizer"], runs["generator"])


def recipe_of(planned: Plan, name: str, output: Path, say: Say) -> RunRecipe:
    """Return a stage's recipe, from its file or anew; its steps follow from a trial.

    So that a stage that was stopped goes on to the bit, its steps are fixed before it begins.
    """
    file = output / f"{name}.yaml"
    if not file.is_file():
        values = dict(getattr(planned, name))
        budget = dict(values["budget"])
        if budget.get("steps") is None and budget.get("seconds") is None:
            seconds = 60 * planned.minutes * SHARES[name]
            values["budget"] = budget | {"steps": _steps(values, seconds)}
            say(f"{values['budget']['steps']} steps fit into {seconds / 60:.1f} minutes")
        steps = values["budget"].get("steps")
        if name == "tokenizer" and steps is not None:
            # the discriminator comes in when there is something to be judged
            values["objective"] = {"start": int(0.5 * steps)} | values["objective"]
        with replaced(file) as temporary:
            temporary.write_text(yaml.safe_dump(values, sort_keys=False), encoding="utf-8")
    return load_recipe(file)


def _steps(values: dict[str, Any], seconds: float) -> int:
    """How many steps fit into a time, by a few of them."""
    with tempfile.TemporaryDirectory() as folder:
        trial = {**values, "output": f"{folder}/trial", "budget": values["budget"] | {"steps": 1}}
        file = Path(folder) / "trial.yaml"
        file.write_text(yaml.safe_dump(trial), encoding="utf-8")
        recipe = load_recipe(file, {"objective.start": 0} if "objective" in values else {})
        learner = prepare_run(recipe)
        learner.take_step()
        begun = time.monotonic()
        for _ in range(TRIAL):
            learner.take_step()
        step = (time.monotonic() - begun) / TRIAL
        begun = time.monotonic()
        learner.task.measure()
        measuring = (time.monotonic() - begun) * (recipe.evaluations + 2)
    return max(10 * recipe.evaluations, int((seconds - measuring) / step))


def _read(file: Path) -> Planned:
    try:
        return from_dict(Planned, parse_yaml(file.read_text(encoding="utf-8"), str(file)))
    except ConfigError as error:
        raise ConfigError(f"{file} is broken ({error}): remove it to plan anew") from None


def _check_empty(output: Path) -> None:
    empty = not output.exists() or (output.is_dir() and not any(output.iterdir()))
    check(empty, "output", str(output), "a new folder, or one that `limner make` wrote")
