"""Guidance schedules: when, and how far, outputs are pushed away from the null row's."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from limner.core.errors import check
from limner.core.guidance import Guidance
from limner.core.order import Step
from limner.core.row import Row


@dataclass(frozen=True)
class Constant:
    """The same scale at every step.

    Args:
        scale_: s of null + s (lead - null); 1 is off.
    """

    scale_: float

    @property
    def active(self) -> bool:
        """False at scale 1."""
        return self.scale_ != 1.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale."""
        return self.scale_ if self.active else None


@dataclass(frozen=True)
class Interval:
    """A constant scale at the steps first .. last, none elsewhere.

    LlamaGen's `cfg_interval` k is `Interval(s, 0, k + 1)`: its prefill and the decode steps 0 .. k.

    Args:
        scale_: s of null + s (lead - null).
        first: number of the first guided step.
        last: number of the last guided step; -1: all.
    """

    scale_: float
    first: int = 0
    last: int = -1

    @property
    def active(self) -> bool:
        """False at scale 1."""
        return self.scale_ != 1.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale inside the interval."""
        inside = self.first <= step.index and (self.last < 0 or step.index <= self.last)
        return self.scale_ if self.active and inside else None


@dataclass(frozen=True)
class StepRamp:
    """VAR's ramp: s = 1 + strength * step / (steps - 1), so the first step is not guided.

    Args:
        strength: VAR's `cfg`; 0 is off.

    Source: `autoregressive_infer_cfg` in models/var.py of FoundationVision/VAR.
    """

    strength: float

    @property
    def active(self) -> bool:
        """False at strength 0."""
        return self.strength != 0.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale, or None where it is 1."""
        assert step.total is not None
        share = step.index / max(1, step.total - 1)
        return 1.0 + self.strength * share if self.active and step.index > 0 else None


@dataclass(frozen=True)
class DrawnRamp:
    """MAR's linear schedule: s = 1 + (cfg - 1) * share of the tokens drawn after this step.

    The last step counts one token as still masked, as the released code does.

    Args:
        scale_: MAR's `cfg`; 1 is off.

    Source: `sample_tokens` in models/mar.py of LTH14/mar.
    """

    scale_: float

    @property
    def active(self) -> bool:
        """False at scale 1."""
        return self.scale_ != 1.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale."""
        if not self.active:
            return None
        total = len(row.tokens.layout)
        drawn = int(row.tokens.known.sum()) + len(step.draw)
        return 1.0 + (self.scale_ - 1.0) * min(drawn, total - 1) / total


SCHEDULES: dict[str, Callable[[float], Guidance]] = {
    "constant": Constant,
    "ramp": lambda scale: StepRamp(scale - 1.0),
    "drawn": DrawnRamp,
}


def schedule(name: str, scale: float) -> Guidance:
    """Return a schedule by name.

    Args:
        name: "constant" (LlamaGen), "ramp" over steps (VAR), "drawn" share of tokens (MAR).
        scale: the largest scale it reaches; 1 is off. VAR's own `cfg` is this minus 1.

    Raises:
        ConfigError: no such schedule.
    """
    check(name in SCHEDULES, "guidance schedule", name, f"one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](scale)
