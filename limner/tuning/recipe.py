"""What decides how a subject is learned.

Published values are those of booth_train_final.py and of the scripts of jiwoogit/ARBooth
(arXiv:2504.02612).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from limner.core.config import from_dict, override, to_dict
from limner.core.errors import check
from limner.models.arbooth import Layers
from limner.training.merging import merge
from limner.training.recipe import Budget, OptimizerRecipe, RunRecipe

LR = 6e-3 / 256  # of Infinity-2B; small models need more


@dataclass(frozen=True)
class PriorRecipe:
    """How the generator is kept from forgetting what else is of the subject's kind.

    Args:
        weight: of the distance from the generator as it was; 0: nothing is kept.
        kind: the distance: of whole distributions ("soft"), or the loss on what the generator as it
            was finds likeliest ("hard").
        temperature: of distributions that are compared.
        draw_temperature: of what is drawn by the generator as it was.
        draw_top_p: of the same.
    """

    weight: float = 0.5
    kind: Literal["soft", "hard"] = "soft"
    temperature: float = 1.0
    draw_temperature: float = 0.5
    draw_top_p: float = 0.97

    def __post_init__(self) -> None:
        check(self.weight >= 0, "weight", self.weight, "0 or more")
        for name in ("temperature", "draw_temperature"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        check(0 < self.draw_top_p <= 1, "draw_top_p", self.draw_top_p, "above 0 and at most 1")


@dataclass(frozen=True, kw_only=True)
class SubjectRecipe(RunRecipe):
    """A run that teaches a pipeline a subject; `data.source` holds its pictures.

    Where a prior is kept, steps learn in turn from the subject and from the prior, so that there
    are two of them for one iteration of the paper.

    Args:
        pipeline: that is tuned: a folder, or a name on the hub.
        word: that will stand for the subject.
        kind: what the subject is: one of the pipeline's classes, or a noun for prompts.
        rows: vectors of the subject, for pipelines on text features; others have as many as the
            prefix that says what is drawn.
        layers: of every block, that are tuned; None: cross-attention and MLP, or the MLP alone.
        full_scales: scales whose tokens count fully; None: 8 of 13, as published.
        later_weight: how much the tokens of finer scales count.
        prior: see `PriorRecipe`.
        text_encoder: T5 weights, for pipelines on text features.
    """

    pipeline: str
    word: str
    kind: str
    rows: int = 4
    layers: tuple[Layers, ...] | None = None
    full_scales: int | None = None
    later_weight: float = 0.5
    prior: PriorRecipe = field(default_factory=PriorRecipe)
    text_encoder: str | None = None
    budget: Budget = field(default_factory=lambda: Budget(steps=1000, batch=2))
    optimizer: OptimizerRecipe = field(
        default_factory=lambda: OptimizerRecipe(
            lr=LR,
            betas=(0.9, 0.97),
            weight_decay=0.005,
            clip=None,
            warmup=0.0,
            schedule="constant",
        )
    )
    evaluations: int = 5
    choose: Literal["best", "last"] = "last"

    def __post_init__(self) -> None:
        super().__post_init__()
        check(bool(self.word.strip()), "word", self.word, "a word")
        check(self.rows >= 1, "rows", self.rows, "at least 1")
        fits = self.layers is None or len(self.layers) > 0
        check(fits, "layers", self.layers, "one or more, or null")
        fits = self.full_scales is None or self.full_scales >= 0
        check(fits, "full_scales", self.full_scales, "0 or more, or null")
        check(self.later_weight >= 0, "later_weight", self.later_weight, "0 or more")


def subject_recipe(values: Mapping[str, Any], overrides: Mapping[str, Any]) -> SubjectRecipe:
    """Return a recipe from the fields that have no default, and others by dotted path.

    Raises:
        ConfigError: a field that is unknown or missing, or a value that is not accepted.
    """
    filled = to_dict(from_dict(SubjectRecipe, values))
    for path, value in overrides.items():
        nested: dict[str, Any] = {}
        override(nested, path, value)
        filled = merge(filled, nested)
    return from_dict(SubjectRecipe, filled)
