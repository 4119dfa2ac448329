"""Comparing both sides of a subject."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

from limner.bench.circumstances import present
from limner.bench.process import WorkerProcess
from limner.bench.result import Agreement, Result, Side, Variant
from limner.bench.settings import BenchError, Settings

WARM_UP = 2
"""Steps of each side that are not counted: memory is claimed, kernels are chosen."""

Say = Callable[[str], object]


def compare(
    task: str,
    subject: str,
    settings: Settings,
    steps: int,
    checkout: str | None,
    command: str,
    say: Say = print,
    warm_up: int = WARM_UP,
) -> Result:
    """Measure limner and the other side, a step of each in turn.

    The other side is the official code where its folder is given, or the subject's baseline.

    Args:
        task: name of what is measured.
        subject: module of the subject.
        settings: of both sides.
        steps: that are counted.
        checkout: folder of the official code; None: limner alone.
        command: that asked for it.
        say: is told how it goes on.
        warm_up: steps that are not counted.

    Raises:
        BenchError: both sides do not answer the same, or one of them fails.
    """
    say("measuring what the machine can do")
    with WorkerProcess(subject, "ours", settings) as worker:
        ceilings, tokens = worker.ask("ceilings"), worker.ask("tokens")
        baseline = worker.ask("baseline")
        others = [replace(settings, precision=name) for name in worker.ask("precisions")]
    of_others = [_ceilings(subject, other) for other in others]
    with ExitStack() as running:
        workers = [
            running.enter_context(WorkerProcess(subject, "ours", each))
            for each in (settings, *others)
        ]
        paired = baseline is not None or checkout is not None
        if paired:
            side = "official" if baseline is None else "baseline"
            theirs = WorkerProcess(subject, side, settings, checkout or "")
            workers.append(running.enter_context(theirs))
        imports = [worker.ask("imports") for worker in workers]
        agreement = None
        if paired and baseline is None:
            say("comparing answers")
            answers = [worker.ask("answer") for worker in (workers[0], workers[-1])]
            agreement = agree(answers[0], answers[1], *workers[0].ask("bounds"))
        rounds = []
        for number in range(warm_up + steps):
            say(f"step {number + 1} of {warm_up + steps}")
            rounds.append([worker.ask("step") for worker in workers])
        ours, *sides = (
            Side.of(done[warm_up:], before, *map(worker.ask, ("memory", "preview", "facts")))
            for done, before, worker in zip(zip(*rounds), imports, workers)
        )
    official = sides.pop() if paired else None
    variants = {
        other.precision: Variant(side, least)
        for other, side, least in zip(others, sides, of_others, strict=True)
    }
    return Result(
        task,
        settings,
        present(command, settings.device),
        ours,
        official,
        agreement,
        ceilings,
        tokens,
        variants,
        baseline,
    )


def _ceilings(subject: str, settings: Settings) -> Any:
    with WorkerProcess(subject, "ours", settings) as worker:
        return worker.ask("ceilings")


def agree(
    ours: Sequence[float], official: Sequence[float], tolerance: float, share: float
) -> Agreement:
    """Return how far both sides answer the same.

    Args:
        ours: our answers.
        official: the official ones.
        tolerance: largest difference over the largest official answer.
        share: of the answers that must agree.

    Raises:
        BenchError: fewer do.
    """
    differences = [abs(one - other) for one, other in zip(ours, official)]
    bound = tolerance * max(map(abs, official))
    found = Agreement(
        len(differences), sum(each <= bound for each in differences), max(differences)
    )
    if len(ours) != len(official) or found.agreeing < share * found.answers:
        raise BenchError(
            f"both sides do not compute the same: {found.agreeing} of {len(official)} answers "
            f"agree, the largest difference is {found.difference:.3g}"
        )
    return found
