"""Recipes from YAML: packaged by name, or a user's file, with fields overridden by path."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from limner.core.config import from_dict, override, to_dict
from limner.core.errors import ConfigError
from limner.recipes import packaged_recipe
from limner.training.merging import merge
from limner.training.recipe import DistillationRecipe, Recipe, RunRecipe, TokenizerRecipe

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable


def load_recipe(
    source: str | os.PathLike[str], overrides: Mapping[str, Any] | None = None
) -> Recipe | DistillationRecipe | TokenizerRecipe:
    """Read and check a recipe: of a generator if it has a `model`, of a student if it has a
    `teacher`, of a tokenizer otherwise.

    A file may begin with `extends: <name or path>`: it then states only what differs from that
    recipe. Paths are taken from the folder of the file.

    Args:
        source: a packaged name ("llamagen/tiny"), the path of a YAML file, or the folder of a run.
        overrides: values by dotted path, as {"optimizer.lr": 3e-4}.

    Raises:
        ConfigError: no such recipe, broken YAML, an unknown field, or a value that is not accepted.
    """
    name = os.fspath(source)
    values = _read(name, Path(), chain=())
    for path, value in (overrides or {}).items():
        nested: dict[str, Any] = {}
        override(nested, path, value)
        values = merge(values, nested)
    short = name.removesuffix(".yaml").removesuffix(".yml")
    values.setdefault("name", short if short == name else Path(short).name)
    values.setdefault("output", f"runs/{values['name']}")
    if "teacher" in values:
        return from_dict(DistillationRecipe, values)
    if "model" in values:
        return from_dict(Recipe, values)
    return from_dict(TokenizerRecipe, values)


def dump_recipe(recipe: RunRecipe) -> str:
    """Return the YAML of a recipe with every field, which `load_recipe` reads back."""
    return yaml.safe_dump(to_dict(recipe), sort_keys=False, allow_unicode=True)


def _read(name: str, folder: Path, chain: tuple[str, ...]) -> dict[str, Any]:
    """Return the values of a recipe and of what it extends, merged."""
    file, folder = _locate(name, folder)
    if str(file) in chain:
        raise ConfigError(f"{name}: extends itself through {' -> '.join((*chain, str(file)))}")
    values = parse_yaml(file.read_text(encoding="utf-8"), str(file))
    base = values.pop("extends", None)
    if base is None:
        return values
    return merge(_read(str(base), folder, (*chain, str(file))), values)


def _locate(name: str, folder: Path) -> tuple[Traversable, Path]:
    """Return the file that a name stands for and the folder that its own paths start from."""
    path = folder / Path(name).expanduser()
    if (path / "recipe.yaml").is_file():
        path /= "recipe.yaml"
    if path.suffix in (".yaml", ".yml") or path.is_file():
        if not path.is_file():
            raise ConfigError(f"recipe file {str(path)!r} does not exist")
        return path, path.parent
    return packaged_recipe(name), folder


def parse_yaml(text: str, where: str) -> dict[str, Any]:
    """Return the mapping that a YAML text holds.

    Args:
        where: name of the file, for messages.

    Raises:
        ConfigError: one line with file, line and column.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"{where}:{mark.line + 1}:{mark.column + 1}" if mark else where
        raise ConfigError(f"{place}: {error.problem or error.context}") from None
    except yaml.YAMLError as error:
        raise ConfigError(f"{where}: {' '.join(str(error).split())}") from None
    if not isinstance(values, dict):
        raise ConfigError(f"{where}: must hold fields and values, not {type(values).__name__}")
    return values
