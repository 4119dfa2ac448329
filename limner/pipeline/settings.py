"""How pictures are to be drawn, as callers of a pipeline say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limner.core.errors import ConfigError, check, unknown
from limner.core.guidance import Guidance
from limner.core.row import Options
from limner.heads.guidance import schedule


@dataclass(frozen=True)
class Settings:
    """How pictures are to be drawn.

    Args:
        count: pictures a class or prompt; None: one each.
        seed: picture i is drawn from seed + i; or a seed for each picture.
        guidance: the largest guidance scale (1: off), on the generator's published schedule; or a
            schedule of `limner.heads.guidance`.
        size: height and width in pixels; None: the pipeline's.
        temperature, top_k, top_p, min_p, steps, processors: see `limner.core.row.Options`.
    """

    count: int | None = None
    seed: int | Sequence[int] = 0
    guidance: float | Guidance = 1.0
    temperature: float = 1.0
    top_k: int = 0
    top_p: float = 1.0
    min_p: float = 0.0
    steps: int | None = None
    size: tuple[int, int] | None = None
    processors: tuple[Any, ...] = ()

    def __post_init__(self) -> None:
        fits = isinstance(self.guidance, (int, float)) or hasattr(self.guidance, "active")
        check(fits, "guidance", self.guidance, "a number or a schedule")
        pair = isinstance(self.size, (tuple, list)) and len(self.size) == 2
        check(self.size is None or pair, "size", self.size, "height and width in pixels")

    def check_seeds(self, count: int) -> None:
        """Raise ConfigError unless there is a seed for each of so many pictures."""
        if not isinstance(self.seed, int):
            accepted = f"a whole number, or {count} of them: one for each picture"
            check(len(self.seed) == count, "seed", list(self.seed), accepted)

    def options(self, published: str) -> Options:
        """Return the rows' options; a plain number becomes the published schedule."""
        guidance = self.guidance
        if isinstance(guidance, (int, float)):
            guidance = schedule(published, float(guidance))
        return Options(
            guidance,
            self.temperature,
            self.top_k,
            self.top_p,
            self.min_p,
            self.steps,
            self.processors,
        )

    def seed_of(self, index: int) -> int:
        """Return the seed of a picture."""
        return self.seed + index if isinstance(self.seed, int) else self.seed[index]

    def record(
        self,
        index: int,
        name: int | str | None,
        prompts: Sequence[str] | None,
        size: tuple[int, int],
    ) -> dict[str, Any]:
        """Return a picture's settings as plain values."""
        guidance = self.guidance
        return {
            "class": name,
            "prompt": None if prompts is None else prompts[index],
            "seed": self.seed_of(index),
            "guidance": guidance if isinstance(guidance, (int, float)) else repr(guidance),
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "steps": self.steps,
            "size": list(size),
        }


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
    return settings


def pictures_asked(
    classes: Sequence[Any] | None, prompts: Sequence[str] | None, count: int | None
) -> int:
    lengths = set()
    for field, each in (("classes", classes), ("prompts", prompts)):
        if each is not None:
            check(not isinstance(each, str) and len(each) > 0, field, each, "a list of one or more")
            lengths.add(len(each))
    if len(lengths) > 1:
        raise ConfigError("classes and prompts must be as many: one of each for every picture")
    base = lengths.pop() if lengths else 1
    check(count is None or count > 0, "count", count, "1 or more")
    return base * (count or 1)
