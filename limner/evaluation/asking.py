"""What pictures are asked for: classes or prompts, in an order that a larger set goes on with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from limner.core.errors import ConfigError, check
from limner.core.seeds import seeded
from limner.data import Source
from limner.pipeline import Pipeline

By = Literal["class", "prompt", "prompt and style", "nothing"]
Rule = Literal["as-real", "balanced"]


@dataclass(frozen=True)
class Asking:
    """What pictures are asked for: the choices in turn, again and again.

    Args:
        by: classes by number, prompts, pairs of a prompt and a style, or nothing.
        rule: how they were chosen, in words.
        choices: in the order in which they are asked for; one None where `by` is "nothing".
        classes: number of the class that each choice is of, where pictures are asked for by other
            things; empty: not known.
    """

    by: By
    rule: str
    choices: tuple[Any, ...]
    classes: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        check(len(self.choices) > 0, "choices", self.choices, "one or more")

    def at(self, begin: int, end: int) -> list[Any]:
        """Return what pictures begin to end - 1 are asked for."""
        return [self.choices[place % len(self.choices)] for place in range(begin, end)]

    def labels(self, begin: int, end: int) -> list[int]:
        """Return the classes of pictures begin to end - 1; -1 where they are not known."""
        known = self.choices if self.by == "class" else self.classes or (-1,)
        return [known[place % len(known)] for place in range(begin, end)]

    def request(self, begin: int, end: int) -> dict[str, Any]:
        """Return what a pipeline is called with for pictures begin to end - 1."""
        asked = self.at(begin, end)
        if self.by == "class":
            return {"classes": asked}
        if self.by == "prompt":
            return {"prompts": asked}
        if self.by == "nothing":
            return {"count": len(asked)}
        prompts, styles = zip(*asked)
        return {"prompts": prompts, "styles": styles}

    @property
    def digest(self) -> str:
        """A text that changes when the choices do."""
        return hashlib.sha256(json.dumps(self.choices).encode()).hexdigest()[:32]


def balanced(classes: int) -> Asking:
    """Ask for all classes equally often."""
    return Asking("class", f"all {classes} classes equally often", tuple(range(classes)))


def as_given(
    by: By, choices: Sequence[Any], name: str, classes: Sequence[int] | None = None
) -> Asking:
    """Ask for what a set of pictures holds, as often as it does, in a fixed random order.

    Args:
        by: what choices are.
        choices: one a picture.
        name: of the set.
        classes: see `Asking`, one a picture; None: not known.
    """
    order = torch.randperm(len(choices), generator=seeded(0, "order of asking")).tolist()
    what = {"class": "classes", "prompt": "captions"}.get(by, "captions and styles")
    known = () if classes is None else tuple(classes[i] for i in order)
    return Asking(by, f"{what} as often as in {name}", tuple(choices[i] for i in order), known)


def asking_for(pipeline: Pipeline, real: Source | None, rule: Rule | None = None) -> Asking:
    """Return what a pipeline is to be asked for, so that its pictures compare with real ones.

    Args:
        pipeline: asked by class or by prompt.
        real: the evaluation set; None: it holds neither classes nor captions.
        rule: "as-real": classes as often as there; "balanced": all equally often; None: as real
            ones where their classes are those of the pipeline.

    Raises:
        ConfigError: the pipeline needs what the evaluation set does not hold.
    """
    condition = pipeline.generator.condition
    if "prompt" in condition.by:
        if real is None:
            raise ConfigError(
                "the pipeline is asked by prompts, and the evaluation set holds no captions: give "
                "--real, a set of pictures with captions"
            )
        captions = [real.caption(i) for i in range(len(real))]
        labels = real.labels.tolist() if real.classes == pipeline.classes else None
        if "style" not in condition.by or not set(real.styles) & set(pipeline.styles):
            return as_given("prompt", captions, real.name, labels)
        styles = [real.styles[style] for style in real.style.tolist()]
        pairs = [list(pair) for pair in zip(captions, styles, strict=True)]
        return as_given("prompt and style", pairs, real.name, labels)
    classes = getattr(condition, "classes", 0)
    if not classes and "class" in condition.by:  # whose numbers are tokens of a vocabulary
        classes = len(pipeline.classes)
    if not classes:
        return Asking("nothing", "nothing", (None,))
    known = {name: number for number, name in enumerate(pipeline.classes)}
    fits = real is not None and all(name in known for name in real.classes)
    if rule == "balanced" or (rule is None and not fits):
        return balanced(classes)
    if real is None or not fits:
        raise ConfigError(
            "the classes of the evaluation set are not those of the pipeline, or not known: leave "
            "--asked as-real out"
        )
    numbers = [known[real.classes[label]] for label in real.labels.tolist()]
    return as_given("class", numbers, real.name)
