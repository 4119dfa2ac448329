"""`limner scaling`: a family of small runs of one recipe, and the power laws they follow."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, UsageError, Verbs, add_plugin, yaml_value

EXAMPLES = """\
Every size is trained alike; held-out loss and token error are fitted by power laws of parameters
and of training compute. scaling.json, scaling.svg and report.html show them. The same command goes
on after a stop or a kill.

  limner scaling var/tiny --sizes 64x2 96x3 128x4 192x6 --budget.steps 1000
  limner scaling llamagen/tiny --sizes 64x2 128x4 256x8 --output runs/laws --optimizer.lr 1e-3
  limner scaling mar/tiny --member "{model.config.width: 64}" --member "{model.config.width: 96}" \\
    --member "{model.config.width: 128}"
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "scaling",
        help="fit power laws to a family of small runs",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner scaling RECIPE (--sizes WIDTHxDEPTH ... | --member FIELDS ...) "
        "[--output DIR] [--plugin FILE] [--FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a packaged name, or a YAML file")
    parser.add_argument(
        "--sizes", nargs="+", type=_size, default=[], metavar="WIDTHxDEPTH", help="of the runs"
    )
    parser.add_argument(
        "--member",
        action="append",
        type=_fields,
        default=[],
        metavar="FIELDS",
        help="a run by fields of its own, as in YAML: {model.config.width: 64} (to be repeated)",
    )
    parser.add_argument("--output", metavar="DIR", help="folder of everything (runs/scaling-...)")
    add_plugin(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train the family, fit and report; or go on with it."""
    from limner.make.scaling import Family, Member, check_family, fit, follow, sized
    from limner.make.scaling_report import lines_of, write_scaling
    from limner.training.progress import Lines

    members = sized(arguments.recipe, arguments.sizes, arguments.fields) if arguments.sizes else []
    members += [
        Member(f"member-{number}", own) for number, own in enumerate(arguments.member, start=1)
    ]
    family = Family(_where(arguments.recipe), tuple(members), dict(arguments.fields))
    check_family(family)
    named = arguments.output or f"runs/scaling-{Path(arguments.recipe).with_suffix('').as_posix()}"
    output = Path(named).expanduser().resolve()  # recipes name it
    points = follow(family, output, Lines().say)
    if points is None:
        return INTERRUPTED
    fits = fit(points)
    write_scaling(family, points, fits, output)
    for line in lines_of(fits):
        print(line)
    print(f"open {output / 'report.html'}")
    return 0


def _where(recipe: str) -> str:
    """Return a file's full path, so that a family goes on from any folder; else the name."""
    path = Path(recipe).expanduser()
    return str(path.resolve()) if path.is_file() else recipe


def _size(text: str) -> tuple[int, int]:
    width, cross, depth = text.lower().partition("x")
    if not (cross and width.isdecimal() and depth.isdecimal() and int(width) and int(depth)):
        raise UsageError(f"size={text!r} is not accepted: write WIDTHxDEPTH, as in 128x4")
    return int(width), int(depth)


def _fields(text: str) -> dict[str, Any]:
    value = yaml_value("member", text)
    if not isinstance(value, dict) or not value:
        raise UsageError(f"member={text!r} is not accepted: write fields, as in {{seed: 1}}")
    return {str(name): inner for name, inner in value.items()}
