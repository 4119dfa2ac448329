"""What it costs to draw a picture: steps, passes of the networks, and time."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from limner.decoding.passes import counted_passes
from limner.evaluation.asking import Asking
from limner.pipeline import Pipeline

REPEATS = 3
GENERATOR = "the generator"  # beside the networks of its head, which have names of their own
LONGEST = 20.0  # seconds after which a time is not taken again


@dataclass(frozen=True)
class DrawingCost:
    """What it costs to draw a picture.

    Args:
        steps: of the order.
        passes: of the generator's network; a guided row and its null row share one.
        head_passes: of a network of the head's own; 0: it has none.
        seconds: a picture, by the number of pictures drawn at once; medians.
        threads: of the processor that computed.
        device: that computed.
    """

    steps: int
    passes: int
    head_passes: int
    seconds: dict[str, float]
    threads: int
    device: str


def drawing_cost(
    pipeline: Pipeline,
    asking: Asking,
    settings: Mapping[str, Any],
    batches: Sequence[int],
    seed: int = 0,
) -> DrawingCost:
    """Draw some pictures, counting and timing.

    Args:
        pipeline: that draws.
        asking: what is asked for.
        settings: of the pipeline.
        batches: numbers of pictures drawn at once.
        seed: of the first picture.
    """

    def draw(count: int, hooks: Sequence[Callable[..., None]] = ()) -> None:
        pipeline(**asking.request(0, count), seed=seed, hooks=hooks, **settings)

    steps = 0

    def step(events: object) -> None:
        nonlocal steps
        steps += 1

    head = pipeline.generator.head
    inner = dict(head.named_children()) if isinstance(head, nn.Module) else {}
    with counted_passes(**{GENERATOR: pipeline.generator}, **inner) as passes:
        draw(1, [step])
    of_generator = passes.pop(GENERATOR)
    of_head = max(passes.values(), default=0)
    seconds = {str(count): _seconds(lambda n=count: draw(n)) / count for count in batches}  # type: ignore[misc]
    device = str(pipeline.generator.device)
    return DrawingCost(steps, of_generator, of_head, seconds, torch.get_num_threads(), device)


def _seconds(work: Callable[[], None]) -> float:
    """Return the median time of some repetitions, after one that is not counted."""
    work()
    times: list[float] = []
    while len(times) < REPEATS and sum(times) < LONGEST:
        begun = time.perf_counter()
        work()  # its pictures are on the CPU when it returns
        times.append(time.perf_counter() - begun)
    return statistics.median(times)
