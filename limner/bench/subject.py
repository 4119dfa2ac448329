"""Subjects: what one step is, for limner and for the official code."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch

from limner.bench.settings import Settings
from limner.bench.work import Work


@dataclass(frozen=True)
class Candidate:
    """One side, ready to run.

    Args:
        step: what is timed. It may return the seconds of its parts by name, see `timed`.
        answer: numbers that the other side must give too, on the same weights and data; None: the
            sides do not compute the same.
        preview: from a request to the first thing to look at; None: there is none before the end.
        facts: told after the steps, by name: passes, bytes.
        stands_for: so many steps take as long as a whole one, of which a step does a part.
    """

    step: Callable[[], Any]
    answer: Callable[[], Sequence[float]] | None = None
    preview: Callable[[], Any] | None = None
    facts: Callable[[], Mapping[str, float]] | None = None
    stands_for: float = 1.0


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        ours: (settings) -> limner's side.
        official: (settings, folder of the official code) -> the official side; None: there is none
            that does the same.
        work: (settings) -> what a step has to compute at least.
        tolerance: answers agree where their difference is at most this share of the largest one.
        agreeing: share of the answers that must agree.
        tokens: (settings) -> how many a step draws; None: it draws none.
        precisions: beside float32 in which our side is measured too.
        baseline: (settings) -> what our side is measured against where that is limner's too.
        name: of the baseline, in words: (settings) -> name.
    """

    ours: Callable[[Settings], Candidate]
    official: Callable[[Settings, str], Candidate] | None
    work: Callable[[Settings], Work]
    tolerance: float = 1e-4
    agreeing: float = 1.0
    tokens: Callable[[Settings], int] | None = None
    precisions: tuple[str, ...] = ()
    baseline: Callable[[Settings], Candidate] | None = None
    name: Callable[[Settings], str] | None = None


def now() -> float:
    """Return the seconds on a clock, once a GPU that is used has done all it was asked for."""
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()
    return time.perf_counter()


@contextmanager
def timed(parts: dict[str, float], name: str) -> Iterator[None]:
    """Add the seconds that a block takes to one of several parts."""
    begun = now()
    yield
    parts[name] = parts.get(name, 0.0) + now() - begun


def load_subject(module: str) -> Subject:
    """Return the `SUBJECT` of a module, by its full name."""
    subject: Subject = importlib.import_module(module).SUBJECT
    return subject
