"""What is followed in a folder is written there, so that the same call goes on with it alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from limner.core.config import from_dict, to_dict
from limner.core.errors import check
from limner.core.files import replaced
from limner.training.recipe_files import parse_yaml


def keep_plan(plan: Any, file: Path, verb: str) -> None:
    """Write a plan into the folder of what it decides, or check that it is the one there.

    Args:
        plan: a dataclass of plain values.
        file: where it is kept.
        verb: that follows it, for messages.

    Raises:
        ConfigError: the folder holds something else, or follows another plan.
    """
    folder = file.parent
    if not file.is_file():
        empty = not folder.exists() or (folder.is_dir() and not any(folder.iterdir()))
        check(empty, "output", str(folder), f"a new folder, or one that `limner {verb}` wrote")
        with replaced(file) as temporary:
            text = yaml.safe_dump(to_dict(plan), sort_keys=False, allow_unicode=True)
            temporary.write_text(text, encoding="utf-8")
    accepted = "another, or removed: something else was asked for when it was begun"
    check(follows(plan, file), "output", str(folder), accepted)


def follows(plan: Any, file: Path) -> bool:
    """Return whether a folder follows a plan.

    Raises:
        ConfigError: the file of its plan is broken.
    """
    if not file.is_file():
        return False
    kept = from_dict(type(plan), parse_yaml(file.read_text(encoding="utf-8"), str(file)))
    return bool(kept == from_dict(type(plan), to_dict(plan)))


def write_json(file: Path, values: Any) -> None:
    """Write plain values, whole or not at all."""
    with replaced(file) as temporary:
        temporary.write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")
