"""What subjects share that draw by a pipeline: parts of a drawing, and passes of its network."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from limner.bench.settings import Settings
from limner.bench.subject import Candidate, now
from limner.core.row import Event
from limner.core.seeds import seeded
from limner.decoding.passes import counted_passes
from limner.pipeline import Pipeline, Result

TOKENS, PIXELS = "tokens", "pixels"
"""The parts of a drawing."""


class Drawing:
    """Draws the same pictures again and again.

    Args:
        pipeline: that draws.
        **asked: as for a call of it.

    Attributes:
        result: of the last time.
    """

    def __init__(self, pipeline: Pipeline, **asked: Any) -> None:
        self.pipeline = pipeline
        self.asked = asked
        self.result: Result | None = None

    def __call__(self, **changed: Any) -> dict[str, float]:
        """Draw; return the seconds until all tokens were drawn, and of decoding them."""
        last = begun = now()

        def note(events: list[Event]) -> None:
            nonlocal last
            last = now()

        self.result = self.pipeline(**(self.asked | changed), hooks=(note,))
        return {TOKENS: last - begun, PIXELS: now() - last}

    def greedy(self) -> list[float]:
        """Return the likeliest codes of the pictures."""
        self(temperature=0.0, top_k=0, top_p=1.0)
        assert self.result is not None and self.result.tokens.ids is not None
        return [float(code) for code in self.result.tokens.ids.flatten()]

    def preview(self) -> None:
        """Draw until there is something to look at."""
        next(self.pipeline.stream(**self.asked))


def counting(drawn: Drawing) -> Candidate:
    """Return a side that also tells the passes of its network."""
    told: dict[str, float] = {}

    def step() -> dict[str, float]:
        with counted_passes(network=drawn.pipeline.generator) as passes:
            parts = drawn()
        told["network passes"] = passes["network"]
        return parts

    return Candidate(step, None, drawn.preview, lambda: told)


def random_labels(settings: Settings, classes: int) -> Tensor:
    """Return a random class for each picture, int64 [B].

    Args:
        settings: with batch and seed.
        classes: of how many.
    """
    rng = seeded(settings.seed, "labels")
    return torch.randint(classes, (settings.batch,), generator=rng).to(settings.device)


def large(network: nn.Module) -> bool:
    """Return whether caches cannot hold the weights of a network: above 64 MiB."""
    return sum(weight.nbytes for weight in network.parameters()) > 2**26
