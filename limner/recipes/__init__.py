"""Packaged recipes: one YAML file for each, named `<system>/<name>`."""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING

from limner.core.errors import unknown

if TYPE_CHECKING:
    from importlib.resources.abc import Traversable

ROOT = resources.files("limner.recipes")


def list_recipes() -> tuple[str, ...]:
    """Return the names of all packaged recipes, as "llamagen/tiny"."""
    return tuple(
        sorted(
            f"{folder.name}/{file.name.removesuffix('.yaml')}"
            for folder in ROOT.iterdir()
            if folder.is_dir()
            for file in folder.iterdir()
            if file.name.endswith(".yaml")
        )
    )


def packaged_recipe(name: str) -> Traversable:
    """Return the file of a packaged recipe.

    Raises:
        ConfigError: there is none of this name; names the nearest.
    """
    if name not in list_recipes():
        raise unknown("recipe", name, list_recipes())
    return ROOT / f"{name}.yaml"
