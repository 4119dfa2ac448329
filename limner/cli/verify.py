"""`limner verify`: replays of reference cases."""

from __future__ import annotations

import argparse
import os

from limner.cli.exit_codes import DIFFERS
from limner.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("verify", help="replay reference cases; exit code 1 on any failure")
    parser.add_argument("paths", nargs="+", metavar="PATH", help="cases, or folders with cases")
    parser.set_defaults(run=run, on_error=DIFFERS)


def run(arguments: argparse.Namespace) -> int:
    """Replay, with the same bits on every processor.

    Intel's library of mathematics rounds float32 exponentials by the processor: at times of 1e6, as
    Meissonic's, that moves a sinusoid by 0.06. References were made where it rounds as in this mode
    ("conditional numerical reproducibility" in oneMKL's guide); it reads the variable at first use.
    """
    os.environ.setdefault("MKL_CBWR", "COMPATIBLE")
    from limner.verify import verify

    return verify(arguments.paths).exit_code
