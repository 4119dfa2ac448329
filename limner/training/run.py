"""The folder of a run: recipe, log, trained pipeline, metrics, pictures."""

from __future__ import annotations

import dataclasses
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limner.core.config import to_dict
from limner.core.errors import check
from limner.core.files import replaced
from limner.pipeline import Pipeline
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.training.progress import Moment
from limner.training.recipe import Recipe, SampleRecipe
from limner.training.recipe_files import dump_recipe

SHOWN_CLASSES = 16  # rows of the picture of samples, at most


@dataclass(frozen=True, eq=False)
class Run:
    """A run that is over.

    Args:
        directory: what `Pipeline.from_pretrained` loads; recipe, log and metrics lie beside.
        pipeline: the best state that was measured.
        metrics: what metrics.json holds.
        interrupted: it was stopped by hand.
    """

    directory: Path
    pipeline: Pipeline
    metrics: dict[str, Any]
    interrupted: bool


class RunFolder:
    """Writes a run's files; an earlier run of the same name is kept as `<name>.previous`.

    Args:
        recipe: of the run; its `output` is the folder.

    Raises:
        ConfigError: the folder holds something that is no run.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.path = Path(recipe.output).expanduser()
        _make_room(self.path)
        self.path.mkdir(parents=True, exist_ok=True)
        self.write("recipe.yaml", dump_recipe(recipe))
        self._log = (self.path / "log.jsonl").open("w", buffering=1, encoding="utf-8")

    def write(self, name: str, text: str) -> None:
        """Write a file whole or not at all."""
        with replaced(self.path / name) as temporary:
            temporary.write_text(text, encoding="utf-8")

    def log(self, moment: Moment) -> None:
        """Add a line to log.jsonl."""
        values = {
            name: round(value, 6) if isinstance(value, float) else value
            for name, value in dataclasses.asdict(moment).items()
            if value is not None
        }
        self._log.write(json.dumps(values) + "\n")

    def __enter__(self) -> RunFolder:
        return self

    def __exit__(self, *error: object) -> None:
        self._log.close()

    def keep(self, pipeline: Pipeline) -> None:
        """Write the pipeline, or the new state of one that was written before.

        It is written whole beside what is there and then exchanged part by part; between two
        states of one run only `model` differs, so no reader ever finds parts that do not fit.
        """
        staged, old = self.path / ".new", self.path / ".old"
        for leftover in (staged, old):
            shutil.rmtree(leftover, ignore_errors=True)
        pipeline.save_pretrained(staged)
        old.mkdir()
        for part in sorted(staged.iterdir()):
            target = self.path / part.name
            if target.exists():
                target.rename(old / part.name)
            part.rename(target)
        staged.rmdir()
        shutil.rmtree(old)

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        self.write("metrics.json", json.dumps(metrics, indent=2) + "\n")

    def draw_samples(self, pipeline: Pipeline, sample: SampleRecipe, seed: int) -> None:
        """Write samples.png: a row of pictures for each class."""
        settings = to_dict(sample) | {"seed": seed}
        each = settings.pop("each")
        rows = range(min(len(pipeline.classes), SHOWN_CLASSES))
        drawn = pipeline(classes=[row for row in rows for _ in range(each)], **settings)
        save_png(contact_sheet(drawn.pictures, each), self.path / "samples.png", settings)


def _make_room(path: Path) -> None:
    """Move an earlier run aside."""
    if not path.exists() or (path.is_dir() and not any(path.iterdir())):
        return
    is_run = (path / "recipe.yaml").is_file()
    check(is_run, "output", str(path), "a new folder, or one that an earlier run wrote")
    previous = path.with_name(path.name + ".previous")
    if previous.exists():
        shutil.rmtree(previous)
    path.rename(previous)
