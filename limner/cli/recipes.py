"""`limner recipes`: what `limner train` knows by name."""

from __future__ import annotations

import argparse

from limner.cli.parser import Verbs


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("recipes", help="list the packaged recipes")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """List."""
    from limner.recipes import list_recipes

    for name in list_recipes():
        print(name)
    return 0
