"""`limner bench`: speed and memory, beside the official code and what the machine allows."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from limner.cli.parser import Verbs

if TYPE_CHECKING:
    from rich.console import RenderableType

    from limner.bench.result import Result, Side, Spread

TASKS = {  # name: (what a step is, the model that is measured by default)
    "train": ("a training step", "llamagen-b"),
    "tokenize": ("pictures to ids", "llamagen-vq-16"),
    "sample": ("drawing all tokens of pictures", "llamagen-b"),
}


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "bench", help="measure speed and memory beside the official code and the machine's limits"
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task, (meaning, model) in TASKS.items():
        one = tasks.add_parser(task, help=meaning)
        one.add_argument("--model", default=model, metavar="NAME", help="%(default)s")
        one.add_argument(
            "--batch", type=int, default=4, metavar="N", help="pictures a step, %(default)s"
        )
        one.add_argument(
            "--steps", type=int, default=5, metavar="N", help="steps of each, %(default)s"
        )
        one.add_argument(
            "--official", metavar="DIR", help="folder of the official code; without: limner alone"
        )
        one.add_argument("--compile", action="store_true", help="torch.compile both")
        one.add_argument("--threads", type=int, metavar="N", help="all cores")
        one.add_argument("--json", metavar="FILE", help="write the result there too")
        one.set_defaults(run=run, task=task)


def run(arguments: argparse.Namespace) -> int:
    """Measure, and show what was found."""
    from rich.console import Console

    from limner.bench.comparison import compare
    from limner.bench.settings import Settings
    from limner.bench.subjects import subject_module
    from limner.core.errors import check
    from limner.pipeline.device import cores

    check(arguments.steps > 0, "steps", arguments.steps, "1 or more")
    threads = cores() if arguments.threads is None else arguments.threads
    settings = Settings(arguments.model, arguments.batch, threads, arguments.compile)
    subject = subject_module(arguments.task, arguments.model)
    console = Console()
    with Console(stderr=True).status("") as status:
        result = compare(
            arguments.task,
            subject,
            settings,
            arguments.steps,
            arguments.official,
            _command(arguments, threads),
            status.update,
        )
    console.print(_table(result), *_notes(result), sep="\n")
    if arguments.json is not None:
        result.write(arguments.json)
    return 0


def _command(arguments: argparse.Namespace, threads: int) -> str:
    """Return the command with all that its result depends on, without folders of this machine."""
    words = ["limner bench", arguments.task, f"--model {arguments.model}"]
    words += [f"--batch {arguments.batch} --steps {arguments.steps} --threads {threads}"]
    if arguments.official is not None:
        words.append(f"--official {Path(arguments.official).name}")
    if arguments.compile:
        words.append("--compile")
    return " ".join(words)


def _table(result: Result) -> RenderableType:
    """Return both sides beside each other."""
    from rich.table import Table

    paired = ["official", "limner is"] if result.official is not None else []
    sides = [result.ours, *(variant.side for variant in result.variants.values())]
    sides += [] if result.official is None else [result.official]
    table = Table("", "limner", *(f"limner {name}" for name in result.variants), *paired)
    for column in table.columns[1:]:
        column.justify = "right"
    rows: list[tuple[str, list[str], str]] = [
        ("seconds a step", [_seconds(side.seconds) for side in sides], _times(result.speed)),
        (
            "processor seconds",
            [_seconds(side.cpu_seconds) for side in sides],
            _times(result.cpu_speed),
        ),
        ("memory beyond imports", [_mebibytes(side.own) for side in sides], _part(result.memory)),
        ("memory of imports", [_mebibytes(side.imports) for side in sides], ""),
        ("share of ceiling", [f"{result.share_of_ceiling(side):.0%}" for side in sides], ""),
    ]
    if result.tokens is not None:
        rows[1:1] = [
            ("tokens a second", [_rate(result.tokens, side) for side in sides], ""),
            ("pictures a second", [_rate(result.settings.batch, side) for side in sides], ""),
            ("seconds to a preview", [_moment(side.preview) for side in sides], ""),
        ]
    for name, values, ratio in rows:
        table.add_row(name, *values, *([ratio] if paired else []))
    return table


def _notes(result: Result) -> list[str]:
    ceilings, settings = result.ceilings, result.settings
    slowest, fastest = (
        choose(rate["gflops"] for rate in ceilings["rates"] if rate["share"] > 0.01)
        for choose in (min, max)
    )
    bandwidth = ceilings["reading"] or ceilings["bandwidth"]
    notes = [
        f"{settings.model}, {settings.batch} pictures a step, {settings.threads} threads, "
        f"{result.circumstances.processor}, torch {result.circumstances.torch}",
        f"ceiling: {ceilings['seconds']:.3g} s for {ceilings['gflop']:.4g} GFLOP at {slowest:.0f} "
        f"to {fastest:.0f} GFLOP/s by shape, and memory at {bandwidth:.0f} GB/s",
    ]
    if result.agreement is not None:
        same = result.agreement
        notes.append(
            f"{same.agreeing} of {same.answers} answers agree, "
            f"the largest difference is {same.difference:.2g}"
        )
    return notes


def _seconds(values: Any) -> str:
    from limner.bench.result import Spread

    spread = Spread.of(values)
    return f"{spread.median:.3f} ({spread.least:.3f} to {spread.most:.3f})"


def _rate(count: int, side: Side) -> str:
    from limner.bench.result import Spread

    return f"{count / Spread.of(side.seconds).median:.3g}"


def _moment(seconds: float | None) -> str:
    return "none before the end" if seconds is None else f"{seconds:.3f}"


def _times(ratio: Spread | None) -> str:
    if ratio is None:
        return ""
    return f"{ratio.median:.2f}x as fast ({ratio.least:.2f} to {ratio.most:.2f})"


def _part(ratio: float | None) -> str:
    return "" if ratio is None else f"{ratio:.2f} of it"


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:.0f} MiB"
