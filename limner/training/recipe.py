"""Recipes: everything that decides a training run, as one checked value."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from limner.core.config import from_dict
from limner.core.errors import check
from limner.data.cache_files import TokenType
from limner.data.clip_source import Window
from limner.data.views import AnyViews, Views
from limner.tokenizers.objective import ObjectiveConfig
from limner.tokenizers.quantizers.upkeep import UpkeepConfig


@dataclass(frozen=True)
class _Crop:
    views: AnyViews


@dataclass(frozen=True)
class DataRecipe:
    """Which pictures or clips.

    Args:
        source: a packaged set ("twemoji"), a folder whose sub-folders are the classes, or whatever
            else `limner.data.open_source` finds; of clips, `limner.data.open_clips`.
        size: height and width in pixels.
        frames: of a clip; 0: pictures.
        stride: frames of a film from one of a clip to the next.
        classes: only these, labelled in this order; None: all.
        held_out: share of the pictures that is measured on and never learned from.
        captions: what generators that read captions are told of a picture: its own caption, or the
            name of its class.
        views: how a picture is cropped for training: a `kind` of `limner.data.views` and its
            fields. Generators learn from all views of a picture, which are tokenised once.
        workers: processes that decode pictures while tokenizers train; 0: none beside this one.
        unreadable: share of pictures (of clips, films) that may be unreadable; more is an error.
        cache: folder for tokens, to be shared by runs; None: in the folder of the run.
        cache_dtype: of the tokens there; None: the smallest that holds ids, float32 for values.
    """

    source: str
    size: int
    frames: int = 0
    stride: int = 1
    classes: tuple[str, ...] | None = None
    held_out: float = 0.1
    captions: Literal["own", "class"] = "own"
    views: dict[str, Any] = field(default_factory=lambda: {"kind": "centre"})
    workers: int = 0
    unreadable: float = 0.1
    cache: str | None = None
    cache_dtype: TokenType | None = None

    def __post_init__(self) -> None:
        check(self.size >= 1, "size", self.size, "at least 1")
        check(0 < self.held_out < 1, "held_out", self.held_out, "above 0 and below 1")
        check(self.workers >= 0, "workers", self.workers, "at least 0")
        check(0 <= self.unreadable <= 1, "unreadable", self.unreadable, "between 0 and 1")
        check(self.frames >= 0, "frames", self.frames, "0 or more")
        check(self.stride == 1 or self.frames > 0, "stride", self.stride, "1, as frames is 0")
        _ = self.crop, self.window

    @property
    def window(self) -> Window | None:
        """Which frames make a clip; None: pictures are learned from."""
        return Window(self.frames, self.stride) if self.frames else None

    @property
    def crop(self) -> Views:
        """What `views` says, for pictures of `size`."""
        crop: Views = from_dict(_Crop, {"views": {**self.views, "size": self.size}}).views
        return crop


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
    """AdamW, and how its learning rate follows the share of the budget that is used.

    The rate rises from `start` to 1 over `warmup`, stays there over `hold`, and then follows the
    schedule; all are shares: of `lr`, of the budget, and of what is left of it after warmup.

    Args:
        lr: highest learning rate.
        betas: of AdamW.
        eps: of AdamW.
        weight_decay: of tensors with two dimensions or more.
        final_weight_decay: value that it moves to by half a cosine; None: it stays.
        no_decay: patterns of names ("head.*") that are not decayed whatever their dimensions.
        clip: largest norm of the gradient; None: any.
        warmup: share of the budget over which the rate rises.
        start: where it rises from.
        hold: how long it stays.
        schedule: how it goes on. "steps" multiplies it by `drop` at each of `milestones`.
        final: share of `lr` that cosine and linear end at.
        milestones: shares of the budget after warmup.
        drop: factor at each of them.
    """

    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    weight_decay: float = 0.05
    final_weight_decay: float | None = None
    no_decay: tuple[str, ...] = ()
    clip: float | None = 1.0
    warmup: float = 0.05
    start: float = 0.0
    hold: float = 0.0
    schedule: Literal["constant", "cosine", "linear", "steps"] = "cosine"
    final: float = 0.0
    milestones: tuple[float, ...] = (1 / 2, 2 / 3, 5 / 6)
    drop: float = 0.2

    def __post_init__(self) -> None:
        check(self.lr > 0, "lr", self.lr, "above 0")
        fits = all(0 <= beta < 1 for beta in self.betas)
        check(fits, "betas", self.betas, "two numbers of at least 0 and below 1")
        for name in ("eps", "drop"):
            check(getattr(self, name) > 0, name, getattr(self, name), "above 0")
        for name in ("weight_decay", "final_weight_decay"):
            value = getattr(self, name)
            check(value is None or value >= 0, name, value, "0 or more")
        check(self.clip is None or self.clip > 0, "clip", self.clip, "above 0, or null")
        for name in ("warmup", "hold"):
            value = getattr(self, name)
            check(0 <= value < 1, name, value, "at least 0 and below 1")
        for name in ("start", "final"):
            value = getattr(self, name)
            check(0 <= value <= 1, name, value, "between 0 and 1")
        rising = list(self.milestones) == sorted(set(self.milestones))
        inside = all(0 < milestone < 1 for milestone in self.milestones)
        check(rising and inside, "milestones", self.milestones, "rising shares between 0 and 1")


@dataclass(frozen=True)
class Budget:
    """How long to train: steps (repeatable to the bit) or seconds (whatever the machine manages).

    Args:
        steps: number of optimizer steps.
        seconds: of training and measuring; tokenising comes before.
        batch: examples a step, of all processes together.
        pieces: parts that a batch is cut into, one after the other (gradient accumulation) or on
            several processes. Each has random numbers of its own: as long as there are as many,
            the number of processes changes nothing. At least one a process.
    """

    steps: int | None = None
    seconds: float | None = None
    batch: int = 64
    pieces: int = 1

    def __post_init__(self) -> None:
        given = (self.steps, self.seconds)
        check(given.count(None) == 1, "budget", given, "either steps or seconds, not both")
        check(self.steps is None or self.steps >= 1, "steps", self.steps, "at least 1")
        check(self.seconds is None or self.seconds > 0, "seconds", self.seconds, "above 0")
        check(self.batch >= 1, "batch", self.batch, "at least 1")
        fits = self.pieces >= 1 and self.batch % self.pieces == 0
        check(fits, "pieces", self.pieces, f"at least 1, and a divisor of batch={self.batch}")

    def share(self, steps: int, seconds: float) -> float:
        """Return how much of the budget is used after this many steps and seconds; 1 is all."""
        if self.steps is not None:
            return steps / self.steps
        assert self.seconds is not None
        return seconds / self.seconds


@dataclass(frozen=True)
class CheckpointRecipe:
    """When the whole state of a run is written, from which it goes on to the bit.

    It is written after every measurement, when the run is stopped, and at the end.

    Args:
        every: also after every so many steps; None: not by steps.
        minutes: also when the last one is so old; None: not by time.
        keep: how many are kept.
    """

    every: int | None = None
    minutes: float | None = 10.0
    keep: int = 2

    def __post_init__(self) -> None:
        check(self.every is None or self.every >= 1, "every", self.every, "at least 1, or null")
        fits = self.minutes is None or self.minutes > 0
        check(fits, "minutes", self.minutes, "above 0, or null")
        check(self.keep >= 1, "keep", self.keep, "at least 1")


@dataclass(frozen=True)
class SampleRecipe:
    """How a trained pipeline is sampled for the pictures shown during and at the end of a run.

    Args:
        each: pictures of each class; 0: none are drawn.
        times: how often over the run, the end included.
        guidance: largest scale of classifier-free guidance; 1 is off.
        temperature: of the draw.
        top_k: 0 keeps all.
        top_p: 1 keeps all.
    """

    each: int = 4
    times: int = 1
    guidance: float = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        check(self.each >= 0, "each", self.each, "0 or more")
        check(self.times >= 1, "times", self.times, "at least 1")

    def draw(self) -> dict[str, Any]:
        """Return the settings that a pipeline is called with."""
        return {
            "guidance": self.guidance,
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
        }


@dataclass(frozen=True)
class GrowthRecipe:
    """Progressive training of next-scale models, see `limner.training.growth`.

    Args:
        first: scales that are learned from the start.
        until: share of the budget at which all are; the others join one by one on the way.
        rise: share of the budget over which a scale that joins comes to count like the others.
    """

    first: int = 5
    until: float = 0.5
    rise: float = 1 / 300

    def __post_init__(self) -> None:
        check(self.first >= 1, "first", self.first, "at least 1")
        check(0 < self.until <= 1, "until", self.until, "above 0 and at most 1")
        check(0 <= self.rise < 1, "rise", self.rise, "at least 0 and below 1")


@dataclass(frozen=True, kw_only=True)
class RunRecipe:
    """What every training run is decided by.

    Args:
        name: of the recipe, for logs.
        data: pictures.
        budget: how long.
        optimizer: how.
        seed: decides the weights and every random choice.
        ema: decay of the averaged weights that are measured and kept; None: no averaging.
        evaluations: how often held-out pictures are measured, evenly over the budget.
        choose: which state is kept for use, the one that measured best or the last.
        diverging: the run is stopped when its loss rises to so many times its first one.
        precision: of matrix products; weights and optimizer stay in float32.
        compile: compile the blocks of the network.
        parallel: how several processes share the work: each holds all weights ("ddp") or a part of
            them ("fsdp"); one process needs neither.
        device: "cpu", "cuda", "mps", ...; "auto" takes the fastest there is.
        checkpoint: when the state of the run is written.
        trackers: where measurements go beside log.jsonl.
        output: folder that the run is written to.
    """

    name: str
    data: DataRecipe
    budget: Budget
    optimizer: OptimizerRecipe = field(default_factory=OptimizerRecipe)
    seed: int = 0
    ema: float | None = None
    evaluations: int = 20
    choose: Literal["best", "last"] = "best"
    diverging: float = 10.0
    precision: Literal["float32", "bfloat16"] = "float32"
    compile: bool = False
    parallel: Literal["ddp", "fsdp"] = "ddp"
    device: str = "auto"
    checkpoint: CheckpointRecipe = field(default_factory=CheckpointRecipe)
    trackers: tuple[Literal["tensorboard", "wandb", "trackio"], ...] = ()
    output: str = "run"

    def __post_init__(self) -> None:
        check(self.ema is None or 0 < self.ema < 1, "ema", self.ema, "between 0 and 1, or null")
        check(self.evaluations >= 1, "evaluations", self.evaluations, "at least 1")
        check(self.diverging > 1, "diverging", self.diverging, "above 1")


@dataclass(frozen=True, kw_only=True)
class Recipe(RunRecipe):
    """A run that trains a generator on the tokens of a tokenizer.

    Args:
        tokenizer: read from its weights, or fitted on the training pictures where it can be.
        model: what is trained.
        text_encoder: T5 or CLIP weights, for models that read captions; None: none is needed.
        start_from_codes: a fresh model begins with what the tokenizer knows of its codes, where it
            can: those that look alike begin alike.
        growth: learn coarse scales first, for next-scale models; None: all from the start.
        sample: pictures drawn.
    """

    tokenizer: PartRecipe
    model: PartRecipe
    text_encoder: str | None = None
    start_from_codes: bool = False
    growth: GrowthRecipe | None = None
    sample: SampleRecipe = field(default_factory=SampleRecipe)

    def __post_init__(self) -> None:
        super().__post_init__()
        counted = self.growth is None or self.budget.steps is not None
        check(counted, "growth", self.growth, "null, or given with a budget of steps")


@dataclass(frozen=True, kw_only=True)
class DistillationRecipe(RunRecipe):
    """A run that trains a student on what its teacher makes of noise: a recipe with a `teacher`.

    Args:
        data: none is needed.
        teacher: folder or name on the hub of a pipeline with a LlamaGen or VAR asked by class.
        jumps: tokens (LlamaGen) or scales (VAR) from which the student draws the rest, first 0.
        split: tokens or scales before which it draws codes, vectors after.
        pairs: of noise and tokens that the teacher makes to be learned from.
        held_out: pairs that are only measured on.
        guidance: of the teacher, which the student takes over.
        top_k: of the teacher; 0 keeps all.
        top_p: of the teacher; 1 keeps all.
        sample: pictures drawn.
    """

    data: DataRecipe | None = None  # type: ignore[assignment]
    teacher: str
    jumps: tuple[int, ...] = (0,)
    split: int = 0
    pairs: int = 4096
    held_out: int = 256
    guidance: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    sample: SampleRecipe = field(default_factory=SampleRecipe)

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("pairs", "held_out"):
            check(getattr(self, name) >= 1, name, getattr(self, name), "1 or more")
        check(self.sample.guidance == 1.0, "sample.guidance", self.sample.guidance, "1")


@dataclass(frozen=True, kw_only=True)
class TokenizerRecipe(RunRecipe):
    """A run that trains a tokenizer on pictures: a recipe without a `model`.

    Args:
        tokenizer: what is trained.
        objective: losses, and the discriminator.
        perceptual: network of the perceptual loss: "packaged" (limner's own small one), "lpips-vgg"
            or "lpips-alex" (weights as `limner.hub.networks.load_lpips` finds them), or None.
        discriminator: how the discriminator learns.
        upkeep: how codes are kept alive.
        shown: held-out pictures whose reconstructions are shown.
    """

    tokenizer: PartRecipe
    objective: ObjectiveConfig = field(default_factory=ObjectiveConfig)
    perceptual: str | None = "packaged"
    discriminator: OptimizerRecipe = field(
        default_factory=lambda: OptimizerRecipe(
            lr=1e-4, betas=(0.5, 0.9), weight_decay=0.0, clip=None, schedule="constant"
        )
    )
    upkeep: UpkeepConfig = field(default_factory=UpkeepConfig)
    shown: int = 16

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.shown >= 1, "shown", self.shown, "at least 1")
