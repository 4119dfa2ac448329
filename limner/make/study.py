"""Studies: several generators on the same pictures, with the same number of parameters and the same
budget of training, set beside each other.

A study is a YAML file, packaged or of one's own; an entry is a recipe and what is its own in it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from importlib import resources
from pathlib import Path
from typing import Any

from limner.core.config import from_dict, override
from limner.core.errors import ConfigError, check, unknown
from limner.core.registry import MODELS, TOKENIZERS
from limner.evaluation.against import Part
from limner.evaluation.evaluate import LEAST
from limner.evaluation.resampling import Bootstrap
from limner.hub.build import parameter_count, weightless
from limner.training import Recipe, load_recipe
from limner.training.merging import merge
from limner.training.parts import build_part
from limner.training.prepare import facts_of, layout_of, open_data
from limner.training.recipe_files import parse_yaml

ROOT = resources.files("limner.make") / "studies"


@dataclass(frozen=True)
class CommonBudget:
    """What every entry may spend on training; one of the three.

    Args:
        seconds: on this machine, whatever that gives.
        steps: of the optimizer.
        flops: floating-point operations of losses and their gradients, see
            `limner.training.compute`.
    """

    seconds: float | None = None
    steps: int | None = None
    flops: float | None = None

    def __post_init__(self) -> None:
        given = (self.seconds, self.steps, self.flops)
        check(given.count(None) == 2, "budget", given, "one of seconds, steps and flops")
        for name in ("seconds", "steps", "flops"):
            value = getattr(self, name)
            check(value is None or value > 0, f"budget.{name}", value, "above 0")

    def __str__(self) -> str:
        if self.flops is not None:
            return f"{self.flops:.3g} floating-point operations of training"
        if self.steps is not None:
            return f"{self.steps:,} steps of training"
        assert self.seconds is not None
        return f"{self.seconds / 60:.3g} minutes of training"


@dataclass(frozen=True)
class Entry:
    """One generator of a study.

    Args:
        name: of its folder.
        order: in which it draws, in words.
        head: by which it draws, in words.
        recipe: a packaged name, or a YAML file.
        fields: of the recipe that are its own, nested as there.
        draw: settings of drawing beside the recipe's, see `limner.pipeline.Settings`.
        trained_as: entry whose network this one draws with, in another way; None: its own.
    """

    name: str
    order: str
    head: str
    recipe: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    draw: dict[str, Any] = field(default_factory=dict)
    trained_as: str | None = None

    def __post_init__(self) -> None:
        plain = bool(self.name) and self.name == Path(self.name).name
        check(plain, "name", self.name, "the name of a folder")
        one = bool(self.recipe) != (self.trained_as is not None)
        given = {"recipe": self.recipe, "trained_as": self.trained_as}
        check(one, f"entries.{self.name}", given, "given a recipe, or trained_as")


@dataclass(frozen=True)
class Study:
    """Generators that differ in how they draw and in nothing else, as far as that is possible.

    Args:
        title: of the report.
        entries: in the order of the tables.
        budget: of every training.
        parameters: least and most that a generator may have.
        about: what is compared, in a sentence or two.
        fields: of every recipe, nested as there.
        samples: pictures that every entry draws.
        batch: pictures that are drawn at once.
        seed: of training, and of the first picture.
        part: of the data that pictures are compared with.
        bootstrap: how intervals are found.
        classifier_steps: of the classifier that looks for the class asked for.
        timed: numbers of pictures drawn at once whose time is taken.
    """

    title: str
    entries: tuple[Entry, ...]
    budget: CommonBudget
    parameters: tuple[int, int]
    about: str = ""
    fields: dict[str, Any] = field(default_factory=dict)
    samples: int = 1000
    batch: int = 64
    seed: int = 0
    part: Part = "held-out"
    bootstrap: Bootstrap = field(default_factory=Bootstrap)
    classifier_steps: int = 200
    timed: tuple[int, ...] = (1, 8)

    def __post_init__(self) -> None:
        names = [entry.name for entry in self.entries]
        check(0 < len(set(names)) == len(names), "entries", names, "one or more, of other names")
        least, most = self.parameters
        check(0 < least <= most, "parameters", self.parameters, "two numbers, least and most")
        check(self.samples >= LEAST, "samples", self.samples, f"{LEAST} or more")
        check(self.batch >= 1, "batch", self.batch, "1 or more")
        check(all(n >= 1 for n in self.timed), "timed", self.timed, "of 1 or more")
        for entry in self.entries:
            if entry.trained_as is not None:
                trained = self.entry(entry.trained_as)
                accepted = "an entry with a recipe of its own"
                check(trained.trained_as is None, "trained_as", entry.trained_as, accepted)

    def entry(self, name: str) -> Entry:
        """Return an entry by its name.

        Raises:
            ConfigError: there is none; names the nearest.
        """
        for entry in self.entries:
            if entry.name == name:
                return entry
        raise unknown("entry", name, [entry.name for entry in self.entries])

    def trained(self, entry: Entry) -> Entry:
        """Return the entry whose network an entry draws with: mostly itself."""
        return entry if entry.trained_as is None else self.entry(entry.trained_as)

    def needed(self, entry: Entry) -> tuple[Entry, ...]:
        """Return an entry, after the one whose network it draws with."""
        return (entry,) if entry.trained_as is None else (self.trained(entry), entry)

    def plan(self, entry: Entry) -> Study:
        """Return what decides an entry: the study as if there were no others."""
        return replace(self, title="", about="", entries=self.needed(entry))

    def recipe(self, entry: Entry, output: str, budget: Mapping[str, Any]) -> Recipe:
        """Return what an entry is trained by.

        Args:
            entry: with a recipe of its own.
            output: folder of the run.
            budget: fields of the recipe's budget.

        Raises:
            ConfigError: the recipe is not accepted, or trains no generator from nothing.
        """
        given = merge(self.fields, entry.fields)
        known = load_recipe(entry.recipe, given)
        if not isinstance(known, Recipe) or known.model.weights is not None:
            raise ConfigError(
                f"entries.{entry.name}: recipe={entry.recipe!r} is not accepted: it must train a "
                "generator from nothing"
            )
        fixed = {
            "name": entry.name,
            "output": output,
            "seed": self.seed,
            "budget": dict(budget),
            "sample": {"each": 0},
        }
        recipe = load_recipe(entry.recipe, merge(given, fixed))
        assert isinstance(recipe, Recipe)
        return recipe


def list_studies() -> tuple[str, ...]:
    """Return the names of the packaged studies."""
    files = (file.name for file in ROOT.iterdir())
    return tuple(sorted(n.removesuffix(".yaml") for n in files if n.endswith(".yaml")))


def load_study(source: str, overrides: Mapping[str, Any] | None = None) -> Study:
    """Read and check a study.

    Args:
        source: a packaged name ("orders-and-heads"), or a YAML file; recipes of its entries that
            are files are looked for beside it first.
        overrides: values by dotted path, as {"budget.seconds": 60}.

    Raises:
        ConfigError: no such study, broken YAML, an unknown field, or a value that is not accepted.
    """
    path = Path(source).expanduser()
    if path.is_file():
        text, folder = path.read_text(encoding="utf-8"), path.resolve().parent
    elif source in list_studies():
        text, folder = (ROOT / f"{source}.yaml").read_text(encoding="utf-8"), None
    else:
        raise unknown("study", source, list_studies())
    values = parse_yaml(text, source)
    for name, value in (overrides or {}).items():
        nested: dict[str, Any] = {}
        override(nested, name, value)
        values = merge(values, nested)
    study = from_dict(Study, values)
    if folder is None:
        return study
    beside = [
        replace(entry, recipe=str(folder / entry.recipe))
        if entry.recipe and (folder / entry.recipe).is_file()
        else entry
        for entry in study.entries
    ]
    return replace(study, entries=tuple(beside))


def count_parameters(study: Study, entries: Sequence[Entry]) -> dict[str, int]:
    """Return the number of parameters of every entry's generator, before anything is trained.

    Raises:
        ConfigError: a recipe is not accepted, or has more or fewer than the study allows.
        DataError: the pictures cannot be used.
    """
    counts: dict[str, int] = {}
    least, most = study.parameters
    for entry in entries:
        count = _count(study.recipe(study.trained(entry), entry.name, {"steps": 1}))
        if not least <= count <= most:
            raise ConfigError(
                f"entries.{entry.name}: {count:,} parameters are not accepted: the study says from "
                f"{least:,} to {most:,}"
            )
        counts[entry.name] = count
    return counts


def _count(recipe: Recipe) -> int:
    tokenizer = build_part(TOKENIZERS, recipe.tokenizer, {})
    layout = layout_of(tokenizer, recipe.data)
    facts = facts_of(open_data(recipe.data), tokenizer, layout)
    with weightless():
        return parameter_count(build_part(MODELS, recipe.model, facts))
