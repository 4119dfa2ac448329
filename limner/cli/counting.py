"""What a user sees of work on many pictures: a bar with rate and time left, or lines."""

from __future__ import annotations

import sys
import time
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TaskProgressColumn, TextColumn

from limner.show.clock import clock

LINE_EVERY = 10.0  # seconds between lines, where there is no terminal


class Counting:
    """Is told of stages, one after the other: `counting("drawing", 64, 2000)`.

    Pictures that were there before the first call of a stage count as done, and not for the rate.
    """

    def __init__(self) -> None:
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("{task.fields[text]}"),
            console=console,
        )
        self._lines = not console.is_terminal
        self._stage: str | None = None
        self._task = TaskID(0)
        self._begun = 0.0
        self._said = 0.0
        self._before = 0

    def __enter__(self) -> Counting:
        if not self._lines:
            self._bar.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if not self._lines:
            self._bar.stop()

    def __call__(self, stage: str, done: int, total: int) -> None:
        """Show that so many pictures of a stage are done."""
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._before, self._said = stage, now, done, now
            self._task = self._bar.add_task(stage, total=total, text="")
        text = f"{done}/{total}{self._pace(done, total, now)}"
        self._bar.update(self._task, completed=done, text=text)
        if self._lines and (done == total or now - self._said >= LINE_EVERY):
            self._said = now
            print(f"{stage}: {text}", file=sys.stderr, flush=True)

    def _pace(self, done: int, total: int, now: float) -> str:
        new, seconds = done - self._before, now - self._begun
        if new <= 0 or seconds <= 0 or total <= 1:
            return ""
        return f"  {new / seconds:.1f} pictures/s  {clock(seconds * (total - done) / new)} left"
