"""`limner compare`: results of `limner eval` side by side."""

from __future__ import annotations

import argparse
import sys

from limner.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "compare",
        help="show results of `limner eval` side by side",
        description="Show results side by side, and say where they cannot be compared: other "
        "evaluation set, features, number of pictures or resolution.",
    )
    parser.add_argument(
        "results", nargs="+", metavar="RUN", help="evaluated runs, or folders of results"
    )
    parser.add_argument(
        "--output", default="comparison.html", metavar="FILE", help="page (%(default)s)"
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Compare."""
    from limner.cli.table import print_table
    from limner.evaluation.comparison import (
        read_entries,
        table,
        warnings_of,
        write_comparison,
    )

    entries = read_entries(arguments.results)
    print_table(*table(entries))
    for line in warnings_of(entries):
        print(f"limner: warning: {line}", file=sys.stderr)
    write_comparison(entries, arguments.output)
    print(arguments.output)
    return 0
