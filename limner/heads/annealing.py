"""Fewer solver steps as drawing goes on, for every head that walks from noise to data.

Zhao et al., "DiSA: Diffusion Step Annealing in Autoregressive Image Generation"; facts from
MAR_DiSA/models/{diffloss,mar}.py, FlowAR_DiSA/models/flowar.py and xAR_DiSA/models/xar.py of
Qinyu-Allen-Zhao/DiSA. No weights change: what is drawn late follows almost from what stands there
already, so its way from noise is nearly straight and few steps walk it.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limner.core.errors import ConfigError, check
from limner.core.head import Head
from limner.core.order import Step

STRATEGIES: dict[str, Callable[[int, int], float]] = {
    "linear": lambda index, last: (last - index) / last,
    "cosine": lambda index, last: (math.cos(math.pi * index / last) + 1) / 2,
    "two-stage": lambda index, last: float(index < last / 2),
    "constant": lambda index, last: 0.0,
}
"""How much of the way from `lower` to `upper` is left at step `index` of 0 .. `last`."""

_WRITTEN = re.compile(r"(\d+)-(\d+)(?:-([a-z-]+))?(?:@(\d+))?")


@dataclass(frozen=True)
class StepAnnealing:
    """From `upper` solver steps at the first step of drawing to `lower` at the last.

    Args:
        upper: solver steps at the first step.
        lower: solver steps at the last.
        strategy: "linear", "cosine", "two-stage" (upper in the first half) or "constant" (lower).
        latest: timestep of the full chain that diffusion heads begin at, at the latest: the end of
            a cosine chain is what a few steps cannot walk. Heads do then with fewer calls of their
            network where several steps would lie behind it. Flow heads begin at pure noise.

    Raises:
        ConfigError: a field is not accepted.
    """

    upper: int
    lower: int
    strategy: str = "linear"
    latest: int = 950

    def __post_init__(self) -> None:
        check(self.lower >= 1, "lower", self.lower, "1 or more")
        check(self.upper >= self.lower, "upper", self.upper, f"lower ({self.lower}) or more")
        check(self.strategy in STRATEGIES, "strategy", self.strategy, ", ".join(STRATEGIES))
        check(self.latest >= 1, "latest", self.latest, "1 or more")

    @staticmethod
    def read(text: str) -> StepAnnealing:
        """Return what is written as "50-5", "50-5-cosine" or "50-5-cosine@950".

        Raises:
            ConfigError: it is written otherwise.
        """
        parts = _WRITTEN.fullmatch(text)
        if parts is None:
            raise _refused(text, "UPPER-LOWER, such as 50-5, or UPPER-LOWER-STRATEGY")
        upper, lower, strategy, latest = parts.groups()
        named = {"strategy": strategy, "latest": latest and int(latest)}
        given: dict[str, Any] = {name: value for name, value in named.items() if value}
        return StepAnnealing(int(upper), int(lower), **given)

    def __str__(self) -> str:
        return f"{self.upper}-{self.lower}-{self.strategy}@{self.latest}"

    def count(self, step: Step) -> int:
        """Return the number of solver steps at a step; `upper` where the order is open-ended."""
        last = (step.total or 1) - 1
        share = STRATEGIES[self.strategy](step.index, last) if last else 1.0
        return self.lower + int(share * (self.upper - self.lower))

    def respacing(self, step: Step) -> str:
        """Return the denoising steps at a step, see `limner.heads.gaussian.kept_timesteps`."""
        return f"{self.count(step)}@{self.latest}"

    def check_fits(self, head: Head) -> None:
        """Raise unless a head can be annealed so.

        Raises:
            ConfigError: it takes no solver steps, or not so few or many.
        """
        limits = getattr(head, "solver_steps", None)
        if limits is None:
            raise _refused(str(self), "left out: this model's head takes no solver steps")
        least, most = limits
        fits = least <= self.lower and self.upper <= most
        check(fits, "annealing", str(self), f"within {least} to {most} steps for this model's head")


def _refused(value: str, accepted: str) -> ConfigError:
    return ConfigError(f"annealing={value!r} is not accepted: annealing must be {accepted}")
