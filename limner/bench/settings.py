"""What both sides of a comparison are given."""

from __future__ import annotations

from dataclasses import dataclass

from limner.core.errors import LimnerError, check


class BenchError(LimnerError):
    """A comparison cannot be made."""


@dataclass(frozen=True)
class Settings:
    """What both sides are given.

    Args:
        model: name of the published variant, or a pipeline's folder.
        batch: pictures a step.
        threads: that compute.
        compile: let `torch.compile` work on both.
        seed: of weights and data.
        precision: of our weights, "float32" or "int8"; the official code's are float32.
        drawing_steps: autoregressive steps of a picture, where one can choose; None: as published.
        head_steps: denoising steps of each, where one can choose; None: as published.
        measured: autoregressive steps that are done, spread evenly, where they stand for all; None:
            all of them.
        beside: another model or pipeline that takes part: a draft.
        share: of keys and values that are kept.
        annealing: see `limner.heads.annealing`.
        device: that both sides compute on.
    """

    model: str
    batch: int = 4
    threads: int = 1
    compile: bool = False
    seed: int = 0
    precision: str = "float32"
    drawing_steps: int | None = None
    head_steps: int | None = None
    measured: int | None = None
    beside: str | None = None
    share: float = 0.1
    annealing: str = "50-5"
    device: str = "cpu"

    def __post_init__(self) -> None:
        check(self.batch > 0, "batch", self.batch, "1 or more")
        check(self.threads > 0, "threads", self.threads, "1 or more")
        for name in ("drawing_steps", "head_steps", "measured"):
            value = getattr(self, name)
            check(value is None or value > 0, name, value, "1 or more")
