"""`limner study`: several generators on the same pictures, with the same size and budget."""

from __future__ import annotations

import argparse
import shlex
import sys
from pathlib import Path

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, Verbs, add_plugin

EXAMPLES = """\
Every entry is trained, draws the same classes from the same seeds, is measured and timed.
study.json, report.html and pictures/ show what is done. The same command goes on after a stop or a
kill. Any field of the study can be changed by its path, with a value as in YAML.

  limner study orders-and-heads                  # 20 minutes of training for each entry
  limner study next-scale --entries var,llamagen
  limner study orders-and-heads --check          # only count parameters
  limner study my_study.yaml --budget.steps 100 --samples 64 --output runs/short
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "study",
        help="train and compare several generators on equal terms",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner study NAME [--entries A,B] [--output DIR] [--check] [--plugin FILE] "
        "[--FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument(
        "study", metavar="NAME", help="orders-and-heads, next-scale, or a YAML file"
    )
    parser.add_argument(
        "--entries",
        type=lambda text: [name for name in text.split(",") if name],
        metavar="A,B",
        help="only these, by name",
    )
    parser.add_argument("--output", metavar="DIR", help="folder of everything (runs/study-...)")
    parser.add_argument("--check", action="store_true", help="count parameters, and stop")
    add_plugin(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Check, train, measure and report; or go on with it."""
    from limner.bench.circumstances import present
    from limner.cli.counting import Counting
    from limner.cli.table import print_table
    from limner.core.config import to_dict
    from limner.core.errors import LimnerError
    from limner.make.study import count_parameters, load_study
    from limner.make.study_report import drawing_table, write_study
    from limner.make.studying import Surroundings, check_folders, follow, read_measured
    from limner.training.progress import Lines

    study = load_study(arguments.study, arguments.fields)
    names = arguments.entries or [entry.name for entry in study.entries]
    entries = [study.entry(name) for name in names]
    counts = count_parameters(study, entries)
    rows = [[entry.name, entry.order, entry.head, f"{counts[entry.name]:,}"] for entry in entries]
    print_table(["", "order", "head", "parameters"], rows)
    if arguments.check:
        return 0
    named = arguments.output or f"runs/study-{Path(arguments.study).stem}"
    output = Path(named).expanduser().resolve()  # recipes name it
    circumstances = to_dict(present(_command(arguments)))
    check_folders(study, entries, output)

    def write() -> None:
        write_study(study, read_measured(study, output), output, circumstances)

    around = Surroundings(Lines().say, Counting, circumstances)
    try:
        failed = follow(study, entries, output, around, write)
    except KeyboardInterrupt:
        print("limner: interrupted: the same command goes on", file=sys.stderr)
        return INTERRUPTED
    done = read_measured(study, output)
    if done:
        print_table(*drawing_table(done))
        print(f"open {output / 'report.html'}")
    if failed:
        raise LimnerError(f"{len(failed)} entries failed: {', '.join(failed)}; see above")
    return 0


def _command(arguments: argparse.Namespace) -> str:
    """Return what does the same again; where it is written is left out."""
    words = ["limner", "study", arguments.study]
    for name, value in arguments.fields.items():
        words += [f"--{name}", str(value)]
    return shlex.join(words)
