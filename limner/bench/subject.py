"""Subjects: what one step is, for limner and for the official code."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from limner.bench.settings import Settings
from limner.bench.work import Work


@dataclass(frozen=True)
class Candidate:
    """One side, ready to run.

    Args:
        step: what is timed.
        answer: numbers that the other side must give too, on the same weights and data.
        preview: from a request to the first thing to look at; None: there is none before the end.
    """

    step: Callable[[], Any]
    answer: Callable[[], Sequence[float]]
    preview: Callable[[], Any] | None = None


@dataclass(frozen=True)
class Subject:
    """What is measured.

    Args:
        ours: (settings) -> limner's side.
        official: (settings, folder of the official code) -> the official side.
        work: (settings) -> what a step has to compute at least.
        tolerance: answers agree where their difference is at most this share of the largest one.
        agreeing: share of the answers that must agree.
        tokens: (settings) -> how many a step draws; None: it draws none.
        precisions: beside float32 in which our side is measured too.
    """

    ours: Callable[[Settings], Candidate]
    official: Callable[[Settings, str], Candidate]
    work: Callable[[Settings], Work]
    tolerance: float = 1e-4
    agreeing: float = 1.0
    tokens: Callable[[Settings], int] | None = None
    precisions: tuple[str, ...] = ()


def load_subject(module: str) -> Subject:
    """Return the `SUBJECT` of a module, by its full name."""
    subject: Subject = importlib.import_module(module).SUBJECT
    return subject
