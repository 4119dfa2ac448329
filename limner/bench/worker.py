"""One side in a process of its own: it answers requests, a line of JSON each.

It is started with the arguments of `Worker` as one JSON object. Requests are the names of its
methods; the answer to a mistake is {"error": ...}. What is printed on the way goes to standard
error.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import sys
import time
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any, TextIO

import torch

from limner.bench.ceilings import measure, shortest
from limner.bench.settings import BenchError, Settings
from limner.bench.subject import Candidate, load_subject, now
from limner.core.errors import LimnerError
from limner.core.heap import keep_freed_memory

PREVIEWS = 3


class Worker:
    """Answers requests about one side of a subject.

    Args:
        subject: its module.
        side: "ours", "official" or "baseline".
        checkout: folder of the official code.
        settings: of the comparison.
    """

    def __init__(self, subject: str, side: str, checkout: str, settings: dict[str, Any]) -> None:
        self.settings = Settings(**settings)
        torch.set_num_threads(self.settings.threads)
        self.subject = load_subject(subject)
        self.side = side
        self.checkout = checkout

    @cached_property
    def candidate(self) -> Candidate:
        """The side, built when it is first asked for."""
        if self.side == "ours":
            keep_freed_memory()  # as the command does
            return self.subject.ours(self.settings)
        if self.side == "baseline" and self.subject.baseline is not None:
            keep_freed_memory()
            return self.subject.baseline(self.settings)
        if self.subject.official is None:
            raise BenchError("official is not accepted: no official code does the same")
        return self.subject.official(self.settings, self.checkout)

    def baseline(self) -> str | None:
        """Return what our side is measured against, where that is limner's too."""
        return None if self.subject.name is None else self.subject.name(self.settings)

    def imports(self) -> int:
        """Return the bytes that Python, PyTorch and the subject's modules take on the device."""
        return peak_memory(self.settings.device)

    def bounds(self) -> tuple[float, float]:
        """Return tolerance and share by which both sides must agree."""
        return self.subject.tolerance, self.subject.agreeing

    def answer(self) -> list[float] | None:
        """Return what both sides must agree on, or None where they need not."""
        answer = self.candidate.answer
        return None if answer is None else list(answer())

    def step(self) -> dict[str, Any]:
        """Do one step; return its seconds, those that processors spent on it, and its parts."""
        times = self.candidate.stands_for
        begun, spent = now(), time.process_time()
        found = self.candidate.step()
        seconds, cpu = now() - begun, time.process_time() - spent
        done: dict[str, Any] = {"seconds": times * seconds, "cpu_seconds": times * cpu}
        if isinstance(found, dict):
            done["parts"] = {name: times * part for name, part in found.items()}
        return done

    def facts(self) -> dict[str, float]:
        """Return what else there is to tell of the steps."""
        facts = self.candidate.facts
        return {} if facts is None else dict(facts())

    def tokens(self) -> int | None:
        """Return how many tokens a step draws, or None."""
        return None if self.subject.tokens is None else self.subject.tokens(self.settings)

    def precisions(self) -> list[str]:
        """Return the precisions beside float32 in which our side is measured too."""
        return list(self.subject.precisions)

    def preview(self) -> float | None:
        """Return the seconds to the first preview, the shortest of several, or None."""
        show = self.candidate.preview
        return None if show is None else shortest(show, PREVIEWS)

    def memory(self) -> int:
        """Return the most bytes that were held so far."""
        return peak_memory(self.settings.device)

    def ceilings(self) -> dict[str, Any]:
        """Measure what the machine could do; in a worker that does nothing else."""
        work = self.subject.work(self.settings)
        return dataclasses.asdict(measure(work, self.settings.device))


def peak_memory(device: str = "cpu") -> int:
    """Return the most bytes that this process held so far on a device.

    On the CPU it is the largest resident size. Linux hands `ru_maxrss` on from the process that
    started this one; `VmHWM` is this one's own.
    """
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated(device)
    status = Path("/proc/self/status")
    lines = status.read_text().splitlines() if status.exists() else []
    for line in lines:
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def serve(given: str, requests: TextIO, say: Callable[[str], object]) -> None:
    """Answer requests until there are no more."""
    worker: Worker | None = None
    for line in requests:
        try:
            worker = worker or Worker(**json.loads(given))
            found = getattr(worker, line.strip())()
            say(json.dumps({"found": found}))
        except LimnerError as error:
            say(json.dumps({"error": str(error)}))
        except Exception as error:
            say(json.dumps({"error": f"{type(error).__name__}: {error}"}))


def main() -> None:
    """Answer on what standard output was; what is printed goes to standard error."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    serve(sys.argv[1], sys.stdin, lambda text: print(text, file=answers, flush=True))


if __name__ == "__main__":
    main()
