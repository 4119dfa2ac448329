"""`limner verify`: replays of reference cases."""

from __future__ import annotations

import argparse

from limner.cli.exit_codes import DIFFERS
from limner.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("verify", help="replay reference cases; exit code 1 on any failure")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="cases, or folders with cases")
    parser.set_defaults(run=run, on_error=DIFFERS)


def run(arguments: argparse.Namespace) -> int:
    """Replay."""
    from limner.verify import verify

    return verify(arguments.paths).exit_code
