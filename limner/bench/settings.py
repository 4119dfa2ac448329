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
        model: name of the published variant.
        batch: pictures a step.
        threads: that compute.
        compile: let `torch.compile` work on both.
        seed: of weights and data.
        precision: of our weights, "float32" or "int8"; the official code's are float32.
    """

    model: str
    batch: int = 4
    threads: int = 1
    compile: bool = False
    seed: int = 0
    precision: str = "float32"

    def __post_init__(self) -> None:
        check(self.batch > 0, "batch", self.batch, "1 or more")
        check(self.threads > 0, "threads", self.threads, "1 or more")
