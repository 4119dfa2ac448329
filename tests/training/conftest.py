"""A run that is over in a second: 8 x 8 pixel emoji, 16 codes, a network of one block."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from limner.training import Moment, Recipe, load_recipe

SMALL = {
    "data.size": 8,
    "data.classes": ["Activities", "Food & Drink"],
    "data.views": {"kind": "shifted", "flip": 0.5, "count": 2},
    "tokenizer.config": {"codebook_size": 16, "patch": 4, "width": 8},
    "model.config": {"width": 16, "depth": 1, "heads": 2, "multiple_of": 8, "dropout": 0.1},
    "budget.steps": 12,
    "budget.batch": 16,
    "evaluations": 3,
    "device": "cpu",
    "sample.each": 0,
}


class Recorder:
    """A progress that remembers."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.moments: list[Moment] = []
        self.closed = False

    def say(self, text: str) -> None:
        self.said.append(text)

    def update(self, moment: Moment) -> None:
        self.moments.append(moment)

    def close(self) -> None:
        self.closed = True


@pytest.fixture
def small(tmp_path: Path) -> Callable[..., Recipe]:
    """A function that makes the small recipe; fields are overridden by path."""

    def make(overrides: dict[str, Any] | None = None) -> Recipe:
        fields = {**SMALL, "output": str(tmp_path / "run"), **(overrides or {})}
        recipe = load_recipe("llamagen/tiny", fields)
        assert isinstance(recipe, Recipe)
        return recipe

    return make


@pytest.fixture
def recorder() -> Recorder:
    """A progress that remembers."""
    return Recorder()
