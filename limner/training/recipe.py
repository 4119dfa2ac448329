"""Recipe: everything that decides a training run, as one checked value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from limner.core.errors import check
from limner.data import Augment


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures.

    Args:
        source: a packaged set ("twemoji") or a folder whose sub-folders are the classes.
        size: height and width in pixels.
        classes: only these, labelled in this order; None: all.
        held_out: share of the pictures that is measured on and never learned from.
        augment: how the views of a picture differ from it.
        views: versions of each training picture that are tokenised, once, before training: the
            picture itself and `views - 1` augmented ones.
    """

    source: str
    size: int
    classes: tuple[str, ...] | None = None
    held_out: float = 0.1
    augment: Augment = field(default_factory=Augment)
    views: int = 1

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")
        check(0 < self.held_out < 1, "held_out", self.held_out, "above 0 and below 1")
        check(self.views >= 1, "views", self.views, "at least 1")
        augmented = self.augment != Augment()
        check(
            augmented == (self.views > 1),
            "views",
            self.views,
            "2 or more with data.augment, 1 without",
        )


@dataclass(frozen=True)
class PartRecipe:
    """A tokenizer or a generator: what it is, and the weights it starts from.

    Args:
        family: of the registry, configured by `config` alone.
        variant: a published configuration, which `config` changes.
        weights: a folder that limner wrote (a part, or a pipeline that holds it); it brings its
            own configuration, and alone it also says what the part is.
        config: fields of the part's configuration. Without weights, those that follow from the data
            or the tokenizer (classes, codebook_size, ...) are filled in where they are absent here.
    """

    family: str | None = None
    variant: str | None = None
    weights: str | None = None
    config: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        named = [name for name in (self.family, self.variant) if name is not None]
        enough = len(named) == 1 or (not named and self.weights is not None)
        check(enough, "family, variant, weights", named, "a family, or a variant, or weights alone")


@dataclass(frozen=True)
class OptimizerRecipe:
    """AdamW and its learning rate; tensors with one dimension are not decayed.

    Args:
        lr: learning rate after warmup.
        betas: of AdamW.
        weight_decay: of AdamW.
        clip: largest norm of the gradient; None: any.
        warmup: share of the budget over which the rate rises from 0.
        schedule: how it goes on.
        final: share of `lr` that cosine and linear end at.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    weight_decay: float = 0.05
    clip: float | None = 1.0
    warmup: float = 0.05
    schedule: Literal["constant", "cosine", "linear"] = "cosine"
    final: float = 0.0

    def __post_init__(self) -> None:
        check(self.lr > 0, "lr", self.lr, "above 0")
        fits = all(0 <= beta < 1 for beta in self.betas)
        check(fits, "betas", self.betas, "two numbers of at least 0 and below 1")
        check(self.weight_decay >= 0, "weight_decay", self.weight_decay, "0 or more")
        check(self.clip is None or self.clip > 0, "clip", self.clip, "above 0, or null")
        check(0 <= self.warmup < 1, "warmup", self.warmup, "at least 0 and below 1")
        check(0 <= self.final <= 1, "final", self.final, "between 0 and 1")


@dataclass(frozen=True)
class Budget:
    """How long to train: steps (repeatable to the bit) or seconds (whatever the machine manages).

    Args:
        steps: number of optimizer steps.
        seconds: of training and measuring; tokenising comes before.
        batch: sequences a step.
    """

    steps: int | None = None
    seconds: float | None = None
    batch: int = 64

    def __post_init__(self) -> None:
        given = (self.steps, self.seconds)
        check(given.count(None) == 1, "budget", given, "either steps or seconds, not both")
        check(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.seconds is None or self.seconds > 0, "seconds", self.seconds, "above 0")
        check(self.batch >= 1, "batch", self.batch, "at least 1")

    def share(self, steps: int, seconds: float) -> float:
        """Return how much of the budget is used after this many steps and seconds; 1 is all."""
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return seconds / self.seconds


@dataclass(frozen=True)
class SampleRecipe:
    """How the trained pipeline is sampled for the pictures shown at the end of a run.

    Args:
        each: pictures of each class; 0: none are drawn.
        guidance: largest scale of classifier-free guidance; 1 is off.
        temperature: of the draw.
        top_k: 0 keeps all.
        top_p: 1 keeps all.
    """

    each: int = 4
    guidance: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check(self.each >= 0, "each", self.each, "0 or more")


@dataclass(frozen=True)
class Recipe:
    """One training run.

    Args:
        name: of the recipe, for logs.
        data: pictures.
        tokenizer: fitted on the training pictures, or read from its weights.
        model: what is trained.
        text_encoder: T5 weights, for models that read captions; None: none is needed.
        optimizer: how.
        budget: how long.
        seed: decides the weights and every random choice.
        start_from_codes: a fresh model begins with what the tokenizer knows of its codes, where it
            can: those that look alike begin alike.
        ema: decay of the averaged weights that are measured and kept; None: no averaging.
        evaluations: how often the held-out loss is measured, evenly over the budget.
        precision: of matrix products; weights and optimizer stay in float32.
        device: "cpu", "cuda", "mps", ...; "auto" takes the fastest there is.
        sample: pictures drawn at the end.
        output: folder that the run is written to.
    """

    name: str
    data: DataRecipe
    tokenizer: PartRecipe
    model: PartRecipe
    budget: Budget
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    seed: int = 0
    start_from_codes: bool = False
    ema: float | None = None
    evaluations: int = 20
    precision: Literal["float32", "bfloat16"] = "float32"
    device: str = "auto"
    text_encoder: str | None = None
    sample: SampleRecipe = field(default_factory=SampleRecipe)
    output: str = "run"

    def __post_init__(self) -> None:
        check(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "between 0 and 1, or null")
        check(self.evaluations >= 1, "evaluations", self.evaluations, "at least 1")
