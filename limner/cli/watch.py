"""What a user sees while pictures are drawn: a bar, a live preview; and frames for an animation."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from types import TracebackType

import torch
from PIL import Image
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn
from torch import Tensor

from limner.core.order import Step
from limner.core.row import Event, Row
from limner.core.tokens import stack
from limner.pipeline import Pipeline
from limner.show import LiveView, to_images
from limner.show.clock import clock

MOST_FRAMES = 60
PREVIEW_SHARE = 0.2  # of the time, at most, is spent on live previews


class Watch:
    """A hook of the generation loop.

    Args:
        pipeline: whose tokenizer makes the previews.
        total: number of pictures that will be drawn, in all batches.
        preview: show pictures as they come about, where the terminal can.
        animate: keep frames.
    """

    def __init__(self, pipeline: Pipeline, total: int, preview: bool, animate: bool) -> None:
        self._pipeline = pipeline
        self._total = total
        self._animate = animate
        self._rows: list[Row] = []
        self._done = 0  # pictures of earlier batches
        self._steps = 0
        self._frames: list[list[Tensor]] = []  # of each batch: float [b, channels, H, W]
        self._begin = time.monotonic()
        self._next_preview = 0.0
        console = Console(stderr=True)
        self._bar = Progress(
            BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"), console=console
        )
        self._task = self._bar.add_task("", total=total, text="")
        self._view = LiveView(console, self._bar)
        self._preview = preview and self._view.shows_pictures

    def __enter__(self) -> Watch:
        self._view.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._view.__exit__(kind, error, trace)

    def __call__(self, events: list[Event]) -> None:
        """Take note of a step; the first one of a batch has an event for each of its rows."""
        step = events[0].step
        if step.index == 0:
            self._done += len(self._rows)
            self._rows = [event.row for event in events]
            self._frames.append([])
        self._steps += 1
        self._update(step)
        if self._animate and step.index % _stride(step) == 0:
            self._frames[-1].append(self._previews())
        if self._preview and time.monotonic() >= self._next_preview:
            self._show()

    def film(self, last: Sequence[Image.Image]) -> list[list[Image.Image]]:
        """Return the frames of all batches, side by side, each the pictures of one moment.

        Args:
            last: the finished pictures.
        """
        length = max((len(frames) for frames in self._frames), default=0)
        moments = [
            torch.cat([frames[min(moment, len(frames) - 1)] for frames in self._frames])
            for moment in range(length)
        ]
        return [*(to_images(moment) for moment in moments), list(last)]

    def _update(self, step: Step) -> None:
        drawn = self._done + (len(self._rows) * (step.index + 1) / step.total if step.total else 0)
        seconds = time.monotonic() - self._begin
        left = clock(seconds * (self._total - drawn) / drawn) if drawn else "-"
        of_total = f"/{step.total}" if step.total else ""
        rate = self._steps / max(seconds, 1e-9)
        text = f"step {step.index + 1}{of_total}  {rate:.1f} steps/s  {left} left"
        self._bar.update(self._task, completed=drawn, text=text)

    def _show(self) -> None:
        begin = time.monotonic()
        self._view.show(self._previews())
        now = time.monotonic()
        self._next_preview = now + max(0.1, (now - begin) / PREVIEW_SHARE)

    def _previews(self) -> Tensor:
        return self._pipeline.preview(stack([row.tokens for row in self._rows]))


def _stride(step: Step) -> int:
    """Return how many steps lie between two frames."""
    return math.ceil((step.total or 1) / MOST_FRAMES)
