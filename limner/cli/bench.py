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
    "sample": ("drawing pictures, or all their tokens", "llamagen-b"),
    "anneal": ("drawing with fewer and fewer denoising steps (DiSA)", "mar-base"),
    "speculate": ("drawing with a draft (CSpD)", None),
    "cache": ("drawing with a share of keys and values (ScaleKV)", None),
}
OWN = {  # settings of some tasks: their options
    "drawing_steps": "drawing-steps",
    "head_steps": "head-steps",
    "annealing": "annealing",
    "measured": "measured",
    "beside": "draft",
    "share": "share",
}


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "bench", help="measure speed and memory beside the official code and the machine's limits"
    )
    tasks = parser.add_subparsers(metavar="TASK", required=True)
    for task, (meaning, model) in TASKS.items():
        one = tasks.add_parser(task, help=meaning)
        if model is None:
            one.add_argument("--model", required=True, metavar="PIPELINE", help="a folder")
        else:
            one.add_argument("--model", default=model, metavar="NAME", help="%(default)s")
        one.add_argument(
            "--batch", type=int, default=4, metavar="N", help="pictures a step, %(default)s"
        )
        one.add_argument(
            "--steps", type=int, default=5, metavar="N", help="steps of each, %(default)s"
        )
        one.add_argument(
            "--warm-up", type=int, metavar="N", help="steps before them that are not counted (2)"
        )
        if task in ("train", "tokenize", "sample"):
            one.add_argument(
                "--official", metavar="DIR", help="folder of the official code, to be paired with"
            )
        one.add_argument("--compile", action="store_true", help="torch.compile both")
        one.add_argument("--threads", type=int, metavar="N", help="all cores")
        one.add_argument("--device", default="cpu", metavar="NAME", help="cpu, cuda, ... (cpu)")
        one.add_argument("--json", metavar="FILE", help="write the result there too")
        _add_own(one, task)
        one.set_defaults(run=run, task=task)


def _add_own(parser: argparse.ArgumentParser, task: str) -> None:
    """Add the options that only some tasks have; see `OWN`."""
    if task in ("sample", "anneal", "speculate"):
        parser.add_argument(
            "--drawing-steps", type=int, metavar="N", help="autoregressive steps (as published)"
        )
    if task in ("sample", "anneal"):
        parser.add_argument(
            "--head-steps", type=int, metavar="N", help="denoising steps of each (as published)"
        )
    if task == "anneal":
        parser.add_argument("--annealing", default="50-5", metavar="A-B", help="%(default)s")
        parser.add_argument(
            "--measured", type=int, metavar="N", help="autoregressive steps that stand for all"
        )
    if task == "speculate":
        parser.add_argument(
            "--draft", dest="beside", required=True, metavar="PIPELINE", help="a folder"
        )
    if task == "cache":
        parser.add_argument(
            "--share", type=float, default=0.1, metavar="SHARE", help="that is kept, %(default)s"
        )


def run(arguments: argparse.Namespace) -> int:
    """Measure, and show what was found."""
    from rich.console import Console

    from limner.bench.comparison import WARM_UP, compare
    from limner.bench.settings import Settings
    from limner.bench.subjects import subject_module
    from limner.core.errors import check
    from limner.pipeline.device import choose_device, cores

    check(arguments.steps > 0, "steps", arguments.steps, "1 or more")
    threads = cores() if arguments.threads is None else arguments.threads
    warm_up = WARM_UP if arguments.warm_up is None else arguments.warm_up
    check(warm_up >= 0, "warm-up", warm_up, "0 or more")
    asked = arguments.model, arguments.batch, threads, arguments.compile
    settings = Settings(*asked, device=str(choose_device(arguments.device)), **_own(arguments))
    subject = subject_module(arguments.task, arguments.model)
    console = Console()
    with Console(stderr=True).status("") as status:
        result = compare(
            arguments.task,
            subject,
            settings,
            arguments.steps,
            getattr(arguments, "official", None),
            _command(arguments, threads),
            status.update,
            warm_up,
        )
    console.print(_table(result), *_notes(result), sep="\n")
    if arguments.json is not None:
        result.write(arguments.json)
    return 0


def _own(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that only some tasks have, where they were given."""
    found = {name: getattr(arguments, name, None) for name in OWN}
    return {name: value for name, value in found.items() if value is not None}


def _command(arguments: argparse.Namespace, threads: int) -> str:
    """Return the command with all that its result depends on, without folders of this machine."""
    words = ["limner bench", arguments.task, f"--model {Path(arguments.model).name}"]
    words += [f"--batch {arguments.batch} --steps {arguments.steps} --threads {threads}"]
    for name, value in _own(arguments).items():
        words.append(f"--{OWN[name]} {Path(value).name if name == 'beside' else value}")
    if arguments.warm_up is not None:
        words.append(f"--warm-up {arguments.warm_up}")
    if getattr(arguments, "official", None) is not None:
        words.append(f"--official {Path(arguments.official).name}")
    if arguments.compile:
        words.append("--compile")
    if arguments.device != "cpu":
        words.append(f"--device {arguments.device}")
    return " ".join(words)


def _table(result: Result) -> RenderableType:
    """Return both sides beside each other."""
    from rich.table import Table

    paired = [result.baseline or "official", "limner is"] if result.official is not None else []
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
        ("share of ceiling", [_share(result.share_of_ceiling(side)) for side in sides], ""),
    ]
    saved = result.facts_saved()
    for name in result.ours.facts:
        values = [_fact(side.facts.get(name)) for side in sides]
        rows.append((name, values, f"{saved[name]:.2f}x fewer" if name in saved else ""))
    rows[1:1] = [
        (
            f"seconds of {name}",
            [_part_seconds(side, name) for side in sides],
            _times(result.part_speed(name)),
        )
        for name in result.ours.parts
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
    where = result.circumstances.accelerator or result.circumstances.processor
    notes = [
        f"{settings.model}, {settings.batch} pictures a step, {settings.threads} threads, "
        f"{where}, torch {result.circumstances.torch}",
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


def _part_seconds(side: Side, name: str) -> str:
    return _seconds(side.parts[name]) if name in side.parts else ""


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.0%}"


def _fact(value: float | None) -> str:
    if value is None:
        return ""
    return f"{value:,.0f}" if value >= 1000 else f"{value:.4g}"


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
