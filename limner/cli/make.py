"""`limner make`: a folder of pictures becomes a model that draws, and a report."""

from __future__ import annotations

import argparse
from pathlib import Path

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, UsageError, Verbs, add_plugin
from limner.core.config import override

EXAMPLES = """\
The pictures are looked at, sizes are chosen for this machine, a tokenizer and a generator are
trained, and report.html shows what came out. The same command goes on after a stop or a kill.

  limner make photos/                            # sub-folders are classes
  limner make photos/ --minutes 240 --size 64
  limner make photos/ --plan                     # only write the recipes, to be changed and trained
  limner make photos/ --generator.model.config.depth 8 --tokenizer.data.views.flip 0
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "make",
        help="train on a folder of pictures, from nothing to a report",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner make FOLDER [--output DIR] [--minutes N] [--size N] [--plan] "
        "[--tokenizer.FIELD VALUE ...] [--generator.FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument("source", metavar="FOLDER", help="pictures: a folder, a table, shards, ...")
    parser.add_argument("--output", metavar="DIR", help="folder of everything (runs/<name>)")
    parser.add_argument("--minutes", type=float, metavar="N", help="for everything")
    parser.add_argument("--size", type=int, metavar="N", help="of the pictures drawn, in pixels")
    parser.add_argument("--device", default="auto", metavar="NAME", help="cpu, cuda, mps, ...")
    parser.add_argument("--plan", action="store_true", help="choose, write the recipes, and stop")
    add_plugin(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Look, plan, train and report; or go on with it."""
    from limner.make.planning import Wishes
    from limner.make.report import write_report
    from limner.make.stages import look, make
    from limner.training.progress import Lines

    path = Path(arguments.source).expanduser()
    source = str(path.resolve()) if path.exists() else arguments.source
    named = arguments.output or f"runs/{path.resolve().stem or 'made'}"
    output = Path(named).expanduser().resolve()  # recipes name it
    wishes = Wishes(arguments.minutes, arguments.size, **_fields(arguments.fields))
    say = Lines().say
    planned = look(source, output, wishes, say, arguments.device)
    if arguments.plan:
        print(output / "plan.yaml")
        return 0
    made = make(planned, output, say)
    if made is None:
        return INTERRUPTED
    write_report(made)
    print(f"open {output / 'report.html'}; draw more with: limner sample {output}")
    return 0


def _fields(given: dict[str, object]) -> dict[str, dict[str, object]]:
    """Sort fields by the recipe that they belong to."""
    nested: dict[str, dict[str, object]] = {"tokenizer": {}, "generator": {}}
    for name, value in given.items():
        if name.partition(".")[0] not in nested:
            raise UsageError(f"--{name} is not known: begin a field with tokenizer. or generator.")
        override(nested, name, value)
    return nested
