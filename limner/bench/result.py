"""What a comparison found."""

from __future__ import annotations

import json
import os
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from limner.bench.circumstances import Circumstances
from limner.bench.settings import Settings
from limner.core.files import replaced


@dataclass(frozen=True)
class Spread:
    """Several measurements of one thing.

    Args:
        median: of all.
        least: of all.
        most: of all.
    """

    median: float
    least: float
    most: float

    @staticmethod
    def of(values: Sequence[float]) -> Spread:
        """Return the spread of values."""
        return Spread(statistics.median(values), min(values), max(values))


@dataclass(frozen=True)
class Side:
    """How one side did.

    Args:
        seconds: of every step, in the order in which they were done.
        cpu_seconds: that processors spent on every step; less moved by what else they do.
        imports: bytes that were held when Python and the modules were loaded.
        peak: the most bytes that were held, imports included.
        preview: seconds from a request to the first thing to look at; None: there is none.
        parts: of a step, by name, the seconds of every step.
        facts: what else there is to tell, by name: passes, bytes.
    """

    seconds: tuple[float, ...]
    cpu_seconds: tuple[float, ...]
    imports: int
    peak: int
    preview: float | None = None
    parts: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    facts: Mapping[str, float] = field(default_factory=dict)

    @staticmethod
    def of(
        steps: Sequence[Mapping[str, Any]],
        imports: int,
        peak: int,
        preview: float | None = None,
        facts: Mapping[str, float] | None = None,
    ) -> Side:
        """Return a side of what its worker said of every step."""
        seconds, cpu = (tuple(step[n] for step in steps) for n in ("seconds", "cpu_seconds"))
        names = steps[0].get("parts", {})
        parts = {name: tuple(step["parts"][name] for step in steps) for name in names}
        return Side(seconds, cpu, imports, peak, preview, parts, facts or {})

    @property
    def own(self) -> int:
        """Bytes beyond the imports, at most."""
        return self.peak - self.imports


@dataclass(frozen=True)
class Variant:
    """Our side with weights in another precision.

    Args:
        side: how it did.
        ceilings: as `limner.bench.ceilings.Ceilings`.
    """

    side: Side
    ceilings: dict[str, Any]


@dataclass(frozen=True)
class Agreement:
    """How far both sides answer the same.

    Args:
        answers: how many were compared.
        agreeing: how many of them are equal within the subject's tolerance.
        difference: the largest.
    """

    answers: int
    agreeing: int
    difference: float


@dataclass(frozen=True)
class Result:
    """What a comparison found.

    Args:
        task: "train", "tokenize", ...
        settings: given to both sides.
        circumstances: under which it was found.
        ours: limner's side.
        official: the other side: the official one, or a baseline; or None.
        agreement: of both, or None.
        ceilings: as `limner.bench.ceilings.Ceilings`.
        tokens: that a step draws, or None.
        variants: precision -> our side in it.
        baseline: what the other side is, where it is limner's too; None: it is official.
    """

    task: str
    settings: Settings
    circumstances: Circumstances
    ours: Side
    official: Side | None
    agreement: Agreement | None
    ceilings: dict[str, Any]
    tokens: int | None = None
    variants: Mapping[str, Variant] = field(default_factory=dict)
    baseline: str | None = None

    @property
    def speed(self) -> Spread | None:
        """How many times as fast ours is, pair by pair."""
        return self._ratio("seconds")

    @property
    def cpu_speed(self) -> Spread | None:
        """How many times less processor time ours needs, pair by pair."""
        return self._ratio("cpu_seconds")

    @property
    def memory(self) -> float | None:
        """Our peak memory over the official one, both without imports."""
        return None if self.official is None else self.ours.own / self.official.own

    def part_speed(self, name: str) -> Spread | None:
        """How many times as fast ours is at a part of the step, pair by pair."""
        if self.official is None or name not in self.official.parts:
            return None
        pairs = zip(self.official.parts[name], self.ours.parts[name], strict=True)
        return Spread.of([official / ours for official, ours in pairs])

    def share_of_ceiling(self, side: Side) -> float | None:
        """Return the least time of a step on this machine over the median time of a side.

        None of a baseline: it has other things to compute.
        """
        if self.baseline is not None and side is self.official:
            return None
        own = [variant.ceilings for variant in self.variants.values() if variant.side is side]
        least = (own or [self.ceilings])[0]["seconds"]
        return float(least) / statistics.median(side.seconds)

    def as_json(self) -> dict[str, Any]:
        """Return the result as plain values, with what follows from it."""
        values: dict[str, Any] = {
            "circumstances": asdict(self.circumstances),
            "task": self.task,
            "settings": asdict(self.settings),
            "ceilings": self.ceilings,
            "ours": self._side(self.ours),
        }
        if self.variants:
            values["variants"] = {
                name: {**self._side(variant.side), "ceilings": variant.ceilings}
                for name, variant in self.variants.items()
            }
        if self.speed is None or self.cpu_speed is None:
            return values
        assert self.official is not None
        ratios: dict[str, Any] = {
            "speed": asdict(self.speed),
            "cpu_speed": asdict(self.cpu_speed),
            "memory": self.memory,
        }
        parts = {name: self.part_speed(name) for name in self.ours.parts}
        told = {name: asdict(speed) for name, speed in parts.items() if speed is not None}
        if told:
            ratios["parts"] = told
        facts = self.facts_saved()
        if facts:
            ratios["facts"] = facts
        other = self._side(self.official)
        if self.baseline is not None:
            return values | {"baseline": {"name": self.baseline, **other}, "ratios": ratios}
        assert self.agreement is not None
        return values | {
            "official": other,
            "agreement": asdict(self.agreement),
            "ratios": ratios,
        }

    def facts_saved(self) -> dict[str, float]:
        """Return how many times less of each fact ours has, of those that both sides tell."""
        if self.official is None:
            return {}
        theirs, ours = self.official.facts, self.ours.facts
        return {name: theirs[name] / ours[name] for name in ours if ours[name] and name in theirs}

    def write(self, path: str | os.PathLike[str]) -> None:
        """Write the result as JSON, whole or not at all.

        Raises:
            DataError: it cannot be written.
        """
        with replaced(path) as temporary:
            text = json.dumps(_rounded(self.as_json()), indent=1)
            temporary.write_text(text + "\n", encoding="utf-8")

    def _ratio(self, name: str) -> Spread | None:
        if self.official is None:
            return None
        pairs = zip(getattr(self.official, name), getattr(self.ours, name), strict=True)
        return Spread.of([official / ours for official, ours in pairs])

    def _side(self, side: Side) -> dict[str, Any]:
        median = statistics.median(side.seconds)
        drawn = {} if self.tokens is None else {"tokens_a_second": self.tokens / median}
        return {
            **asdict(side),
            "own": side.own,
            "median_seconds": median,
            **drawn,
            "pictures_a_second": self.settings.batch / median,
            "share_of_ceiling": self.share_of_ceiling(side),
        }


def _rounded(value: Any) -> Any:
    """Return plain values with four significant digits, which is more than clocks know."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(inner) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [_rounded(inner) for inner in value]
    return value
