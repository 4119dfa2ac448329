"""DiSA on MAR: fewer denoising steps as drawing goes on, beside MAR as it was published.

Ours against ours. Our side draws in 64 autoregressive steps of 50 denoising steps at first and 5 at
last (arXiv:2505.20297), the baseline in 256 of 100; `drawing_steps` asks for as many of both, which
leaves what annealing alone saves. A picture takes minutes on a CPU: `measured` asks for some of its
autoregressive steps, spread evenly, which then stand for all. The tokens of those between them are
random; what a step costs does not depend on them.
"""

from __future__ import annotations

from dataclasses import replace

import torch

from limner.bench.counting import counted
from limner.bench.drawing import large
from limner.bench.settings import Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.subjects import sample_mar
from limner.bench.work import Work
from limner.core.errors import check
from limner.core.row import Options, Row
from limner.core.seeds import seeded
from limner.decoding import advance
from limner.decoding.passes import counted_passes
from limner.heads.annealing import StepAnnealing
from limner.models.mar import MAR

STEPS = 64
"""Autoregressive steps of the annealed side, as DiSA's authors draw."""


def ours(settings: Settings) -> Candidate:
    """Return the annealed side."""
    steps = settings.drawing_steps or min(STEPS, sample_mar.mar_config(settings).tokens)
    asked = replace(
        sample_mar.options(settings),
        steps=steps,
        annealing=StepAnnealing.read(settings.annealing),
    )
    return _drawing(sample_mar.made(settings), settings, asked)


def baseline(settings: Settings) -> Candidate:
    """Return MAR as it was published."""
    return _drawing(sample_mar.made(settings), settings, sample_mar.options(settings))


def name(settings: Settings) -> str:
    """Return what the baseline does."""
    inner = settings.head_steps or sample_mar.mar_config(settings).head.steps
    return f"{sample_mar.drawing_steps(settings)} x {inner} steps"


def _drawing(model: MAR, settings: Settings, asked: Options) -> Candidate:
    total = asked.steps or 1
    done = total if settings.measured is None else settings.measured
    check(done <= total, "measured", done, f"at most {total}, the steps of a picture")
    told: dict[str, float] = {}

    def step() -> None:
        with counted_passes(network=model, head=model.head.denoiser) as passes:
            draw()
        told.update({f"{name} passes": total / done * count for name, count in passes.items()})

    def draw() -> None:
        rows = sample_mar.begun(model, settings, asked)
        memory = model.memory(rows)
        memory.admit(rows)
        for number in range(done):
            _skip_to(rows, number * total // done)
            advance(model, rows, memory)

    return Candidate(step, facts=lambda: told, stands_for=total / done)


def _skip_to(rows: list[Row], index: int) -> None:
    """Fill in what would have been drawn before a step."""
    for number, row in enumerate(rows):
        if row.lead is None and row.step < index:
            earlier = row.order.step < index  # type: ignore[attr-defined]
            values = row.tokens.values
            assert values is not None
            rng = seeded(number, f"values-{index}")
            drawn = torch.randn(int(earlier.sum()), values.shape[-1], generator=rng)
            values[0, earlier] = drawn.to(values.device)
            row.tokens.known[0, earlier] = True
            row.step = index


def work(settings: Settings) -> Work:
    """Return what the annealed side computes for a picture."""
    candidate = ours(replace(settings, compile=False))
    done = counted(candidate.step, reads=large(sample_mar.made(settings)))
    whole = Work(read=round(candidate.stands_for * done.read))
    for operation, times in done.times.items():
        whole.add(operation, candidate.stands_for * times)
    return whole


SUBJECT = Subject(ours, None, work, baseline=baseline, name=name)
