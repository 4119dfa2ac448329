"""A family of small runs of one recipe: held-out loss and errors against parameters and compute.

Every member is kept when it is done, and what was stopped goes on, so a family is resumable as a
whole. All members share the tokenizer of the first one, and the tokens.

Tian et al., arXiv:2404.02905, section 4.2: power laws of loss and token error, of the last scale
and of all, against parameters; and against training compute along the frontier of all runs.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError, DataError, check
from limner.core.registry import MODELS
from limner.hub.build import blank, parameter_count
from limner.make.plans import keep_plan, write_json
from limner.metrics.power_law import LEAST, PowerLaw, fit_power_law, pareto_frontier
from limner.training import Recipe, Run, load_recipe, train
from limner.training.compute import flops_per_example
from limner.training.merging import merge
from limner.training.run import read_log

Say = Callable[[str], None]
"""Is told what happens, a line at a time."""

PLAN = "family.yaml"
MEASURES = ("loss", "token_error", "bit_error", "last_scale_loss", "last_scale_token_error")


@dataclass(frozen=True)
class Member:
    """One run of a family.

    Args:
        name: of its folder.
        fields: of the recipe that are its own, by dotted path.
    """

    name: str
    fields: dict[str, Any]


@dataclass(frozen=True)
class Family:
    """Runs that differ in size.

    Args:
        recipe: that all follow.
        members: from small to large.
        fields: of the recipe that are changed for all, by dotted path.
    """

    recipe: str
    members: tuple[Member, ...]
    fields: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        names = [member.name for member in self.members]
        enough = len(set(names)) == len(names) >= LEAST
        check(enough, "sizes", names, f"{LEAST} or more that differ: a line goes through any two")


@dataclass(frozen=True)
class Point:
    """What became of one run.

    Args:
        name: of the member.
        parameters: of its generator.
        steps: that it was trained.
        flops: floating-point operations of its training.
        measures: of held-out pictures, by name, see `MEASURES`.
        course: measure -> [flops, value] at every measurement of the run.
    """

    name: str
    parameters: int
    steps: int
    flops: float
    measures: dict[str, float]
    course: dict[str, Any]


@dataclass(frozen=True)
class Fits:
    """Power laws of a family, by measure; one that cannot be fitted is missing.

    Args:
        parameters: against the number of parameters.
        compute: against the least training compute that reaches a value.
    """

    parameters: dict[str, PowerLaw]
    compute: dict[str, PowerLaw]


def sized(recipe: str, sizes: Sequence[tuple[int, int]], fields: Mapping[str, Any]) -> list[Member]:
    """Return members by width and depth; heads are as wide as the recipe's.

    Raises:
        ConfigError: the recipe trains no generator from nothing, or one without these fields; or a
            width that is no whole number of heads.
    """
    config = _config(_generator_recipe(recipe, fields))
    for name in ("width", "depth", "heads"):
        if not isinstance(getattr(config, name, None), int):
            raise ConfigError(
                f"recipe={recipe!r} is not accepted: its model has no {name}; give members by "
                "their own fields"
            )
    head = config.width // config.heads
    members = []
    for width, depth in sizes:
        check(width % head == 0, "width", width, f"a multiple of the recipe's {head} a head")
        size = {"width": width, "depth": depth, "heads": width // head}
        own = {f"model.config.{name}": value for name, value in size.items()}
        members.append(Member(f"{width}x{depth}", own))
    return members


def check_family(family: Family) -> None:
    """Check every recipe before the first is followed.

    Raises:
        ConfigError: a recipe that is not accepted, or fewer than three numbers of parameters.
    """
    counts = {}
    for member in family.members:
        recipe = _generator_recipe(family.recipe, {**family.fields, **member.fields})
        model = blank(MODELS.get_family(_family_name(recipe)), _config(recipe))
        counts[member.name] = parameter_count(model)
    different = len(set(counts.values()))
    check(different >= LEAST, "sizes", counts, f"{LEAST} or more numbers of parameters")


def follow(family: Family, output: Path, say: Say) -> list[Point] | None:
    """Train and measure all members, or go on with them.

    Returns:
        What became of them, from small to large; None if it was stopped by hand: the same call goes
        on.

    Raises:
        LimnerError: a recipe cannot be followed, a training fails, or the folder holds another
            family.
    """
    keep_plan(family, output / PLAN, "scaling")
    points = []
    for number, member in enumerate(family.members, start=1):
        file = output / member.name / "point.json"
        if not file.is_file():
            say(f"{number}/{len(family.members)} {member.name}")
            run = train(_recipe_of(family, number - 1, output), resume=True)
            if run.interrupted:
                return None
            write_json(file, to_dict(_point(member.name, run)))
        points.append(from_dict(Point, json.loads(file.read_text(encoding="utf-8")), str(file)))
    return sorted(points, key=lambda point: point.parameters)


def fit(points: Sequence[Point]) -> Fits:
    """Fit power laws to every measure that all members have."""
    parameters: dict[str, PowerLaw] = {}
    compute: dict[str, PowerLaw] = {}
    for name in MEASURES:
        if all(name in point.measures for point in points):
            pairs = [(float(point.parameters), point.measures[name]) for point in points]
            parameters |= _fitted(name, pairs)
        compute |= _fitted(name, frontier(points, name))
    return Fits(parameters, compute)


def frontier(points: Sequence[Point], measure: str) -> list[tuple[float, float]]:
    """Return (flops, value) that no measurement of any run reaches with less of either."""
    seen = [(x, y) for point in points for x, y in point.course.get(measure, ())]
    return pareto_frontier([pair for pair in seen if min(pair) > 0])


def _fitted(name: str, pairs: Sequence[tuple[float, float]]) -> dict[str, PowerLaw]:
    try:
        return {name: fit_power_law(pairs)}
    except DataError:  # an error of 0, or a frontier of two points
        return {}


def _point(name: str, run: Run) -> Point:
    flops = flops_per_example(run.pipeline) * _batch(run)
    steps, metrics = run.metrics["steps"], run.metrics
    last = metrics.get("held_out_last_scale", {})
    measures = _measures(metrics["held_out"]) | {
        f"last_scale_{key}": value for key, value in _measures(last).items()
    }
    course: dict[str, list[list[float]]] = {}
    for logged in read_log(run.directory):
        held_out = {
            key.removeprefix("held_out_"): value
            for key, value in logged.items()
            if key.startswith("held_out_")
        }
        if "held_out" in logged:
            for key, value in _measures({"loss": logged["held_out"], **held_out}).items():
                course.setdefault(key, []).append([flops * logged["step"], value])
    return Point(name, metrics["parameters"], steps, float(flops * steps), measures, course)


def _measures(held_out: Mapping[str, float]) -> dict[str, float]:
    found = {name: held_out[name] for name in ("loss", "token_error") if name in held_out}
    if "bit_accuracy" in held_out:
        found["bit_error"] = 1 - held_out["bit_accuracy"]
    return found


def _batch(run: Run) -> int:
    recipe = load_recipe(run.directory)
    return recipe.budget.batch


def _recipe_of(family: Family, number: int, output: Path) -> Recipe:
    member, first = family.members[number], family.members[0]
    given: dict[str, Any] = {"sample.each": 0, **family.fields, **member.fields}
    recipe = _generator_recipe(family.recipe, given)
    given |= {
        "name": f"{output.name}/{member.name}",
        "output": str(output / member.name),
        "data.cache": recipe.data.cache or str(output / "tokens"),
    }
    if number > 0 and recipe.tokenizer.weights is None:
        given["tokenizer.weights"] = str(output / first.name / "tokenizer")
    return _generator_recipe(family.recipe, given)


def _generator_recipe(name: str, fields: Mapping[str, Any]) -> Recipe:
    recipe = load_recipe(name, fields)
    if not isinstance(recipe, Recipe):
        raise ConfigError(f"recipe={name!r} is not accepted: it trains a tokenizer, no generator")
    fresh = recipe.model.weights is None
    check(fresh, "model.weights", recipe.model.weights, "null: sizes are compared from nothing")
    return recipe


def _family_name(recipe: Recipe) -> str:
    if recipe.model.variant is not None:
        return MODELS.get_variant(recipe.model.variant).family
    assert recipe.model.family is not None
    return recipe.model.family


def _config(recipe: Recipe) -> Any:
    """Return the configuration of a recipe's model, without what follows from the data."""
    variant = recipe.model.variant
    values = {} if variant is None else to_dict(MODELS.get_variant(variant).config)
    family = MODELS.get_family(_family_name(recipe))
    return from_dict(family.config, merge(values, recipe.model.config), "model.config")
