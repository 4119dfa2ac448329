"""limner.json, which makes a directory a pipeline."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from limner.core.errors import CheckpointError
from limner.hub.remote import resolve
from limner.hub.save import read_json

FORMAT = 1
INDEX = "limner.json"


def find(path_or_name: str | Path) -> Path:
    """Return the directory of a pipeline: the one named, or `generator/` of what was made.

    Raises:
        CheckpointError: there is none.
    """
    directory = resolve(path_or_name)
    for candidate in (directory, directory / "generator"):
        if (candidate / INDEX).is_file():
            return candidate
    raise CheckpointError(f"{path_or_name} is no pipeline: {INDEX} is missing")


def read_index(directory: Path) -> dict[str, Any]:
    """Return what limner.json says.

    Raises:
        CheckpointError: it is broken, or of another format.
    """
    index = read_json(directory / INDEX)
    if index.get("limner") != FORMAT:
        found = index.get("limner")
        raise CheckpointError(f"{directory / INDEX} is of format {found!r}: known: {FORMAT}")
    for field, kind in (("classes", str), ("size", int)):
        values = index.get(field)
        if not isinstance(values, list) or not all(isinstance(value, kind) for value in values):
            raise CheckpointError(f"{directory / INDEX} is broken: {field} must be a list")
    styles = index.get("styles", [])
    if not isinstance(styles, list) or not all(isinstance(style, str) for style in styles):
        raise CheckpointError(f"{directory / INDEX} is broken: styles must be a list of names")
    if not isinstance(index.get("settings", {}), dict):
        raise CheckpointError(f"{directory / INDEX} is broken: settings must be a mapping")
    frames = index.get("frames", 1)
    if not isinstance(frames, int) or frames < 1:
        raise CheckpointError(f"{directory / INDEX} is broken: frames must be 1 or more")
    if len(index["size"]) != 2:
        raise CheckpointError(f"{directory / INDEX} is broken: size must be height and width")
    return index
