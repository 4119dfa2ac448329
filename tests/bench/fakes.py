"""A subject whose sides do next to nothing, for workers of the tests."""

from __future__ import annotations

import torch

from limner.bench.settings import BenchError, Settings
from limner.bench.subject import Candidate, Subject
from limner.bench.work import Convolution, Product, Work

MEBIBYTES = 64  # that the official side holds, beyond ours


def ours(settings: Settings) -> Candidate:
    return Candidate(lambda: sum(range(1000)), lambda: [1.0, float(settings.batch)])


def official(settings: Settings, checkout: str) -> Candidate:
    """Slower, and larger; prints as it likes, and computes something else if it is told to."""
    if checkout == "missing":
        raise BenchError("the official code is missing")
    answer = 2.0 if checkout == "wrong" else 1.0
    held = []

    def step() -> None:
        print("the official code talks")
        held[:] = [torch.ones(MEBIBYTES * 2**18)]
        sum(range(3_000_000))
        if checkout == "broken":
            raise ZeroDivisionError("in the official code")

    return Candidate(step, lambda: [answer, float(settings.batch)])


def work(settings: Settings) -> Work:
    done = Work(bytes=1000)
    done.add([Product(8, 4, 6), Product(8, 4, 6, batch=3)], times=2)
    done.add(Convolution(settings.batch, 3, 5, 7, 9, stride=2))
    return done


SUBJECT = Subject(ours, official, work, tolerance=1e-3, agreeing=1.0)
