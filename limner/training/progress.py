"""What a run says while it trains: a live bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Protocol, TextIO

import psutil
import torch
from rich.console import Console
from rich.progress import BarColumn, TaskProgressColumn, TextColumn
from rich.progress import Progress as RichBar

from limner.show.clock import clock


@dataclass(frozen=True)
class Moment:
    """Where a run is.

    Args:
        step: steps done.
        share: of the budget used, from 0 to 1.
        seconds: since the first step.
        lr: learning rate now.
        loss: mean over the latest steps; None: none was done.
        held_out: held-out loss if it was measured just now.
        examples: learned from so far.
        memory: that is used now, in GiB, on the device of the run.
        parts: other means and measurements, by name.
    """

    step: int
    share: float
    seconds: float
    lr: float
    loss: float | None
    held_out: float | None = None
    examples: int = 0
    memory: float = 0.0
    parts: Mapping[str, float] = field(default_factory=dict)

    def values(self) -> dict[str, float]:
        """Return everything that is known, by name, as logs hold it."""
        fields = dataclasses.asdict(self)
        parts = fields.pop("parts")
        known = {name: value for name, value in fields.items() if value is not None}
        return {**known, "examples_per_second": self.throughput, **parts}

    @property
    def rate(self) -> float:
        """Steps a second, so far."""
        return self.step / max(self.seconds, 1e-9)

    @property
    def throughput(self) -> float:
        """Examples a second, so far."""
        return self.examples / max(self.seconds, 1e-9)

    @property
    def remaining(self) -> float:
        """Seconds still to go, at this rate."""
        return self.seconds * (1 - self.share) / max(self.share, 1e-9)


Watch = Callable[[Moment], None]
"""Is told where a run is."""


class Progress(Protocol):
    """Is told what happens in a run."""

    def say(self, text: str) -> None:
        """Something worth a line happened."""
        ...

    def update(self, moment: Moment) -> None:
        """Some steps were done, or the held-out loss was measured."""
        ...

    def close(self) -> None:
        """The run is over."""
        ...


class Silent:
    """Says nothing."""

    def say(self, text: str) -> None:
        """Do nothing."""

    def update(self, moment: Moment) -> None:
        """Do nothing."""

    def close(self) -> None:
        """Do nothing."""


class Lines:
    """One line for each measurement: for logs and pipes.

    Args:
        stream: that is written to; None: standard error.
    """

    def __init__(self, stream: TextIO | None = None) -> None:
        self.stream = stream or sys.stderr

    def say(self, text: str) -> None:
        """Write a line."""
        print(text, file=self.stream, flush=True)

    def update(self, moment: Moment) -> None:
        """Write a line if the held-out loss is new."""
        if moment.held_out is None:
            return
        self.say(
            f"step {moment.step}  {moment.share:4.0%}  {moment.rate:.1f} steps/s  "
            f"{moment.throughput:.0f} examples/s  {clock(moment.remaining)} left  "
            f"{moment.memory:.1f} GiB  loss {number(moment.loss)}  "
            f"held-out {number(moment.held_out)}{_shown(moment.parts)}"
        )

    def close(self) -> None:
        """Do nothing."""


class Bar:
    """A bar that is redrawn in place.

    Args:
        console: a terminal.
    """

    def __init__(self, console: Console) -> None:
        self._bar = RichBar(
            BarColumn(),
            TaskProgressColumn(),
            TextColumn("step {task.fields[step]}  {task.fields[rate]:.1f}/s"),
            TextColumn("{task.fields[remaining]} left  {task.fields[memory]:.1f} GiB"),
            TextColumn(
                "loss [cyan]{task.fields[loss]}[/]  held-out [green]{task.fields[held_out]}"
            ),
            console=console,
        )
        self._task = self._bar.add_task(
            "",
            total=1.0,
            step=0,
            rate=0.0,
            memory=0.0,
            remaining="-",
            loss="-",
            held_out="-",
            visible=False,
        )
        self._bar.start()

    def say(self, text: str) -> None:
        """Write a line above the bar."""
        self._bar.console.print(text, highlight=False, markup=False)

    def update(self, moment: Moment) -> None:
        """Redraw the bar."""
        if moment.held_out is not None:
            self._bar.update(self._task, held_out=number(moment.held_out) + _shown(moment.parts))
        self._bar.update(
            self._task,
            completed=min(1.0, moment.share),
            visible=True,
            step=moment.step,
            rate=moment.rate,
            memory=moment.memory,
            remaining=clock(moment.remaining),
            loss=number(moment.loss),
        )

    def close(self) -> None:
        """Leave the bar as it is."""
        self._bar.stop()


def choose_progress() -> Progress:
    """Return a bar if standard error is a terminal, plain lines otherwise."""
    console = Console(stderr=True)
    return Bar(console) if console.is_terminal else Lines()


def memory_used(device: torch.device) -> float:
    """Return the memory in use now, in GiB: of a GPU, or of this process."""
    if device.type == "cuda":
        return torch.cuda.memory_allocated(device) / 2**30
    return psutil.Process().memory_info().rss / 2**30


def number(value: float | None) -> str:
    """Return a loss as it is shown."""
    return "-" if value is None else f"{value:.3f}"


# measurements that are worth a place in a line
_SHOWN = {"held_out_psnr": "PSNR", "held_out_ssim": "SSIM", "held_out_usage": "codes used"}


def _shown(parts: Mapping[str, float]) -> str:
    values = [f"  {text} {parts[name]:.3g}" for name, text in _SHOWN.items() if name in parts]
    return "".join(values)
