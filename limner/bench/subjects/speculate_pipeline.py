"""Drawing by a trained pipeline with the help of a draft, beside the same pipeline alone.

Ours against ours, as acceptance says nothing of random weights: `model` is the target's folder,
`beside` the draft's (arXiv:2411.11925). Passes of the target are counted for each picture, and
`drawing_steps` is asked of both sides.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from limner.bench.counting import counted
from limner.bench.drawing import Drawing, large, random_labels
from limner.bench.settings import BenchError, Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Work
from limner.decoding.passes import counted_passes
from limner.decoding.speculation import Tally
from limner.pipeline import Pipeline

TEXT = "a fox"


def target(settings: Settings) -> Pipeline:
    """Return the pipeline that is to be drawn."""
    return Pipeline.from_pretrained(settings.model, device=settings.device)


def asked(settings: Settings, pipeline: Pipeline) -> Drawing:
    """Return what draws pictures of random classes, or by a text where there are none."""
    how: dict[str, Any] = {"prompts": [TEXT] * settings.batch}
    if pipeline.classes:
        how = {"classes": random_labels(settings, len(pipeline.classes)).tolist()}
    if settings.drawing_steps is not None:
        how["steps"] = settings.drawing_steps
    return Drawing(pipeline, **how)


def ours(settings: Settings) -> Candidate:
    """Return the side with a draft.

    Raises:
        BenchError: there is no draft.
    """
    if settings.beside is None:
        raise BenchError("beside is missing: give the draft's folder")
    draft = Pipeline.from_pretrained(settings.beside, device=settings.device)
    pipeline = target(settings).with_draft(draft)
    drawn, tallies = asked(settings, pipeline), list[Tally]()
    watches = pipeline.generator.head.watches  # type: ignore[attr-defined]

    def step() -> dict[str, float]:
        tallies[:] = [Tally()]
        watches[:] = tallies
        return drawn()

    def facts() -> dict[str, float]:
        (tally,) = tallies
        drafts = tally.accepted + tally.rejected + tally.dropped
        return {
            "target passes": tally.target_passes / settings.batch,
            "draft passes": tally.draft_passes / settings.batch,
            "share of drafts accepted": tally.accepted / max(1, drafts),
        }

    return Candidate(step, facts=facts)


def baseline(settings: Settings) -> Candidate:
    """Return the target alone."""
    drawn = asked(settings, target(settings))
    told: dict[str, float] = {}

    def step() -> dict[str, float]:
        with counted_passes(target=drawn.pipeline.generator) as passes:
            parts = drawn()
        told["target passes"] = passes["target"]
        return parts

    return Candidate(step, facts=lambda: told)


def work(settings: Settings) -> Work:
    """Return what drawing with a draft computes."""
    candidate = ours(replace(settings, compile=False))
    return counted(candidate.step, reads=large(target(settings).generator))


SUBJECT = Subject(ours, None, work, baseline=baseline, name=lambda settings: "the target alone")
