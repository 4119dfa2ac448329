"""Guidance schedules: when, and how far, outputs are pushed away from the null row's."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor

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
class UntilDrawn:
    """A constant scale until more than so many tokens are drawn, then none.

    Args:
        scale_: s of null + s (lead - null); 1 is off.
        limit: that number; None: no end.

    Source: `decode_n_tokens` in NAR-images/autoregressive/models/generate.py of ThisisBillhe/NAR.
    """

    scale_: float
    limit: int | None = None

    @property
    def active(self) -> bool:
        """False at scale 1."""
        return self.scale_ != 1.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale; the first step always has one."""
        if not self.active:
            return None
        drawn = 0 if self.limit is None or step.index == 0 else int(row.tokens.known.sum())
        return self.scale_ if self.limit is None or drawn <= self.limit else None


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
class HalfRamp:
    """Token-Shuffle's schedule: s rises from 1 over the first half of the steps, then stays.

    s = 1 + (scale - 1) min(1, step / floor(steps / 2)), so the first step is not guided.

    Args:
        scale_: of the second half; 1 is off.

    Source: Ma et al., arXiv:2504.17789, "half-linear"; how it is cut into steps is a choice.
    """

    scale_: float

    @property
    def active(self) -> bool:
        """False at scale 1."""
        return self.scale_ != 1.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale, or None where it is 1."""
        assert step.total is not None
        share = min(1.0, step.index / max(1, step.total // 2))
        return 1.0 + (self.scale_ - 1.0) * share if self.active and step.index > 0 else None


@dataclass(frozen=True)
class Listed:
    """One scale a step (Infinity's lists).

    Args:
        scales: s of null + s (lead - null) of every step, in order; 1 is off.
    """

    scales: tuple[float, ...]

    @property
    def active(self) -> bool:
        """False where all are 1."""
        return any(scale != 1.0 for scale in self.scales)

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the step's scale, or None where it is 1.

        Raises:
            ConfigError: there are fewer scales than steps.
        """
        fits = len(self.scales) > step.index
        check(fits, "guidance", self.scales, "a scale for each of the steps")
        scale = self.scales[step.index]
        return None if scale == 1.0 else scale


@dataclass(frozen=True)
class Inside:
    """A schedule that is applied to what a block of the network makes, not to its outputs.

    Args:
        schedule: says how far.
        block: number of the block, from 0; negative ones count from the last, -1.

    Source: `cfg_insertion_layer` of `autoregressive_infer_cfg` in infinity/models/infinity.py of
    StargazerX0/ScaleKV, a copy of that of FoundationVision/Infinity.
    """

    schedule: Guidance
    block: int

    @property
    def active(self) -> bool:
        """Whether the schedule is."""
        return self.schedule.active

    def scale(self, row: Row, step: Step) -> float | None:
        """Return None: outputs stay as they are."""
        return None

    def inside(self, row: Row, step: Step) -> float | None:
        """Return the scale between the blocks, or None for no guidance."""
        return self.schedule.scale(row, step)


@dataclass(frozen=True)
class ScaleRamp:
    """FlexVAR's ramp: s = 1 + strength * step / min(steps - 1, 9), full at scales never trained.

    Past ten steps it goes on rising above 1 + strength.

    Args:
        strength: FlexVAR's `cfg`; 0 is off.
        trained: side of the largest map in training; longer ones are guided in full.

    Source: `autoregressive_infer_cfg` in models/flexvar.py of jiaosiyu1999/FlexVAR.
    """

    strength: float
    trained: int = 16

    @property
    def active(self) -> bool:
        """False at strength 0."""
        return self.strength != 0.0

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale, or None where it is 1."""
        assert step.total is not None
        layout = row.tokens.layout
        beyond = max(layout.segments[layout.segment_at(step.first)].size) > self.trained
        share = 1.0 if beyond else step.index / max(1, min(step.total - 1, 9))
        return 1.0 + self.strength * share if self.active and share > 0 else None


def guided_inside(x: Tensor, rows: Sequence[Row], block: int, blocks: int) -> Tensor:
    """Return what a block made, mixed between lead and null rows whose guidance is after it.

    Both then go on with the mixture.

    Args:
        x: float [R, L, D].
        rows: of it; none in training.
        block: number of the block.
        blocks: how many there are.
    """
    places = {id(row): place for place, row in enumerate(rows)}
    for null, row in enumerate(rows):
        guidance = row.options.guidance
        if row.lead is None or not isinstance(guidance, Inside):
            continue
        step = row.lead.order.next(row.lead)
        scale = None if step is None else guidance.inside(row.lead, step)
        if scale is not None and guidance.block % blocks == block:
            lead, x = places[id(row.lead)], x.clone()
            x[lead] = x[null] = x[null] + scale * (x[lead] - x[null])
    return x


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
    "half-ramp": HalfRamp,
    "scale-ramp": lambda scale: ScaleRamp(scale - 1.0),
    "drawn": DrawnRamp,
}


def schedule(name: str, scale: float) -> Guidance:
    """Return a schedule by name.

    Args:
        name: "constant" (LlamaGen), "ramp" over steps (VAR) or the first half of them, "half-ramp"
            (Token-Shuffle), "scale-ramp" (FlexVAR), "drawn" share of tokens (MAR).
        scale: the largest scale it reaches (FlexVAR: within ten steps); 1 is off. VAR's and
            FlexVAR's own `cfg` is this minus 1.

    Raises:
        ConfigError: no such schedule.
    """
    check(name in SCHEDULES, "guidance schedule", name, f"one of {', '.join(SCHEDULES)}")
    return SCHEDULES[name](scale)
