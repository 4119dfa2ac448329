"""The folder of a run: recipe, log, what was trained, metrics, pictures, states."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from limner.core.config import to_dict
from limner.core.errors import ConfigError, check
from limner.core.files import replaced
from limner.hub.save import replace_weights, write_part
from limner.pipeline import Pipeline
from limner.pipeline.index import INDEX
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.training.progress import Moment
from limner.training.recipe import RunRecipe, SampleRecipe
from limner.training.recipe_files import dump_recipe, load_recipe

LOG = "log.jsonl"
RECIPE = "recipe.yaml"
METRICS = "metrics.json"
# what decides the weights that a run begins with and what it learns from
FIXED = ("data", "tokenizer", "model", "objective", "seed", "ema", "start_from_codes")
FREE_IN_DATA = ("workers", "unreadable", "cache")
_LEFTOVER = re.compile(r"\..*\.[0-9a-f]{8}(\.\w+)?|\.tmp\w{6}")  # ours, or those of safetensors
SHOWN_CLASSES = 16  # rows of the picture of samples, at most


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is over.

    Args:
        directory: what `Pipeline.from_pretrained` loads, or the run of a tokenizer whose part lies
            in `tokenizer`; recipe, log and metrics lie beside.
        part: the pipeline or the tokenizer that was kept.
        metrics: what metrics.json holds.
        interrupted: it was stopped by hand.
    """

    directory: Path
    part: Any
    metrics: dict[str, Any]
    interrupted: bool

    @property
    def pipeline(self) -> Pipeline:
        """The pipeline that was kept."""
        assert isinstance(self.part, Pipeline)
        return self.part


def read_log(folder: Path) -> list[dict[str, Any]]:
    """Return the lines of a run's log, first to last."""
    lines = (folder / LOG).read_text(encoding="utf-8").splitlines()
    return [json.loads(line) for line in lines]


class RunFolder:
    """Writes a run's files; an earlier run of the same name is kept as `<name>.previous`.

    Args:
        recipe: of the run; its `output` is the folder.
        resume: go on with the run that is there, if there is one.
        writes: this process does; others only know where the files are.

    Raises:
        ConfigError: the folder holds something that is no run, or a run that cannot go on with this
            recipe.
    """

    def __init__(self, recipe: RunRecipe, resume: bool = False, writes: bool = True) -> None:
        self.path = Path(recipe.output).expanduser()
        self.writes = writes
        if not writes:
            return
        if resume and (self.path / RECIPE).is_file():
            _check_same(recipe, self.path)
            _remove_leftovers(self.path)
        else:
            _make_room(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.write(RECIPE, dump_recipe(recipe))

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        with replaced(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def log(self, moment: Moment) -> None:
        """Add a line to log.jsonl."""
        values = moment.values()
        rounded = {n: round(v, 6) if isinstance(v, float) else v for n, v in values.items()}
        with (self.path / LOG).open("a", encoding="utf-8") as log:
            log.write(json.dumps(rounded) + "\n")

    def forget_after(self, step: int) -> None:
        """Remove the log's lines of later steps: they will be taken again."""
        if (self.path / LOG).is_file():
            lines = (self.path / LOG).read_text(encoding="utf-8").splitlines(keepends=True)
            self.write(LOG, "".join(line for line in lines if _step_of(line) <= step))

    def keep_pipeline(self, pipeline: Pipeline, weights: Mapping[str, Tensor]) -> None:
        """Write a pipeline whose generator has these weights.

        The first time it is written part by part, what makes the folder a pipeline last; after that
        only the weights differ. So no reader ever finds parts that do not fit.
        """
        if (self.path / INDEX).is_file():
            replace_weights(pipeline.generator, weights, self.path / "model")
            return
        write_part(pipeline.generator, weights, self.path / "model")
        self.write(INDEX, pipeline.index())

    def keep_tokenizer(self, tokenizer: nn.Module, weights: Mapping[str, Tensor]) -> None:
        """Write a tokenizer with these weights."""
        if (self.path / "tokenizer" / "config.json").is_file():
            replace_weights(tokenizer, weights, self.path / "tokenizer")
        else:
            write_part(tokenizer, weights, self.path / "tokenizer")

    def write_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Write metrics.json."""
        self.write(METRICS, json.dumps(dict(metrics), indent=2) + "\n")

    def draw_samples(self, pipeline: Pipeline, sample: SampleRecipe, seed: int, name: str) -> None:
        """Write a picture with a row of samples for each class, or one where none is asked for."""
        settings = sample.draw() | {"seed": seed}
        rows = range(max(1, min(len(pipeline.classes), SHOWN_CLASSES)))
        classes = [row for row in rows for _ in range(sample.each)]
        asked = {"classes": classes} if pipeline.generator.condition.by else {"count": sample.each}
        drawn = pipeline(**asked, **settings)
        save_png(contact_sheet(drawn.pictures, sample.each), self.path / name, settings)


def _make_room(path: Path) -> None:
    """Move an earlier run aside."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    is_run = (path / RECIPE).is_file()
    check(is_run, "output", str(path), "a new folder, or one that an earlier run wrote")
    previous = path.with_name(path.name + ".previous")
    if previous.exists():
        shutil.rmtree(previous)
    path.rename(previous)


def _remove_leftovers(path: Path) -> None:
    """Remove what was being written when the run was killed."""
    for leftover in list(path.rglob(".*")):
        if not _LEFTOVER.fullmatch(leftover.name):
            continue
        if leftover.is_dir():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _check_same(recipe: RunRecipe, path: Path) -> None:
    """Raise if the run in a folder was begun with another recipe in what cannot change."""
    begun, now = (_fixed(to_dict(each)) for each in (load_recipe(path), recipe))
    for name in begun.keys() | now.keys():
        was = begun.get(name)
        if was != now.get(name):
            raise ConfigError(
                f"{name}={now.get(name)!r} is not accepted: the run in {path} that is to go on has "
                f"{name}={was!r}; give another output, or leave out --resume to begin anew"
            )


def _fixed(values: dict[str, Any]) -> dict[str, Any]:
    """The fields that cannot change, by path."""
    fields = {name: values[name] for name in FIXED if name in values}
    data = {f"data.{name}": value for name, value in fields.pop("data").items()}
    return fields | {n: v for n, v in data.items() if n.split(".")[1] not in FREE_IN_DATA}


def _step_of(line: str) -> float:
    """The step that a line of the log is of; a line cut off by a kill is of none."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return float("inf")
