"""`limner quickstart`: train a tiny generator on packaged pictures, and draw with it."""

from __future__ import annotations

import argparse

from limner.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("quickstart", help="train a tiny generator and draw with it")
    parser.add_argument("--seconds", type=float, metavar="N", help="how long to train")
    parser.add_argument("--output", default="runs/quickstart", metavar="DIR", help="%(default)s")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train and draw."""
    from limner.quickstart import run as run_quickstart

    options = {} if arguments.seconds is None else {"seconds": arguments.seconds}
    run_quickstart(arguments.output, **options)
    return 0
