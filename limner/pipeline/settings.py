"""How pictures are to be drawn, as callers of a pipeline say it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError, check, unknown
from limner.core.guidance import Guidance
from limner.core.row import Options
from limner.heads.annealing import StepAnnealing
from limner.heads.guidance import schedule
from limner.heads.mixtures import Mixture
from limner.layers.scale_memory import CacheBudget, ScaleMemory


@dataclass(frozen=True)
class Settings:
    """How pictures are to be drawn.

    Args:
        count: pictures a class or prompt; None: one each.
        seed: picture i is drawn from seed + i; or a seed for each picture.
        guidance: the largest guidance scale (1: off), on the generator's published schedule; or a
            schedule of `limner.heads.guidance`.
        size: height and width in pixels; None: the pipeline's.
        frames: of clips; None: the pipeline's.
        temperature, top_k, top_p, min_p, steps, processors: see `limner.core.row.Options`.
        smooth: draw mixtures of codes (VAR's `more_smooth`), where the tokenizer can mix them.
        annealing: fewer solver steps as drawing goes on (DiSA), for diffusion and flow heads:
            "50-5" from 50 to 5, "50-5-cosine", or a `limner.heads.annealing.StepAnnealing`. None:
            the head's own number at every step.
        cache: of models that draw scale by scale, the share of keys and values that is kept
            (ScaleKV, see `limner.pipeline.cache`); or a budget, the path of one, or an empty
            memory. None: all.
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
    smooth: bool = False
    annealing: str | StepAnnealing | None = None
    cache: float | str | CacheBudget | ScaleMemory | None = None
    frames: int | None = None

    def __post_init__(self) -> None:
        fits = isinstance(self.guidance, (int, float)) or hasattr(self.guidance, "active")
        check(fits, "guidance", self.guidance, "a number or a schedule")
        pair = isinstance(self.size, (tuple, list)) and len(self.size) == 2
        check(self.size is None or pair, "size", self.size, "height and width in pixels")
        check(self.frames is None or self.frames > 0, "frames", self.frames, "1 or more")
        _ = self.steps_annealed

    @property
    def steps_annealed(self) -> StepAnnealing | None:
        """What `annealing` says."""
        said = self.annealing
        return StepAnnealing.read(said) if isinstance(said, str) else said

    def check_seeds(self, count: int) -> None:
        """Raise ConfigError unless there is a seed for each of so many pictures."""
        if not isinstance(self.seed, int):
            accepted = f"a whole number, or {count} of them: one for each picture"
            check(len(self.seed) == count, "seed", list(self.seed), accepted)

    def options(self, published: str, codes: Tensor | None = None) -> Options:
        """Return the rows' options; a plain number becomes the published schedule.

        Args:
            codes: float [V, D], what mixtures are made of; None: there are none.
        """
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
            None if codes is None else Mixture(codes),
            self.steps_annealed,
        )

    def seed_of(self, index: int) -> int:
        """Return the seed of a picture."""
        return self.seed + index if isinstance(self.seed, int) else self.seed[index]

    def record(
        self,
        index: int,
        names: tuple[int | str | None, int | str | None],
        prompts: Sequence[str] | None,
        size: tuple[int, int],
        frames: int | None = None,
    ) -> dict[str, Any]:
        """Return a picture's settings as plain values.

        Args:
            index: of the picture.
            names: of its class and its style.
            prompts: of all pictures, or None.
            size: height and width in pixels.
            frames: of a clip; None: it is a picture.
        """
        guidance = self.guidance
        label, style = names
        return {
            "class": label,
            **({} if style is None else {"style": style}),
            "prompt": None if prompts is None else prompts[index],
            "seed": self.seed_of(index),
            "guidance": guidance if isinstance(guidance, (int, float)) else repr(guidance),
            "temperature": self.temperature,
            "top_k": self.top_k,
            "top_p": self.top_p,
            "min_p": self.min_p,
            "steps": self.steps,
            **({"smooth": True} if self.smooth else {}),
            **({} if self.cache is None else {"cache": self._cache_record()}),
            **({} if self.annealing is None else {"annealing": str(self.steps_annealed)}),
            "size": list(size),
            **({} if frames is None else {"frames": frames}),
        }

    def _cache_record(self) -> float | str:
        plain = isinstance(self.cache, (int, float, str))
        return self.cache if plain else repr(self.cache)  # type: ignore[return-value]


def checked(settings: dict[str, Any]) -> dict[str, Any]:
    for name in settings:
        if name not in Settings.__dataclass_fields__:
            raise unknown("setting", name, Settings.__dataclass_fields__)
    return settings


def pictures_asked(
    classes: Sequence[Any] | None,
    prompts: Sequence[str] | None,
    styles: Sequence[Any] | None,
    count: int | None,
) -> int:
    lengths = set()
    for field, each in (("classes", classes), ("prompts", prompts), ("styles", styles)):
        if each is not None:
            check(not isinstance(each, str) and len(each) > 0, field, each, "a list of one or more")
            lengths.add(len(each))
    if len(lengths) > 1:
        raise ConfigError(
            "classes, prompts and styles must be as many: one of each for every picture"
        )
    base = lengths.pop() if lengths else 1
    check(count is None or count > 0, "count", count, "1 or more")
    return base * (count or 1)
