"""`limner train`: a recipe becomes a trained pipeline."""

from __future__ import annotations

import argparse

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, Verbs, add_plugin

EXAMPLES = """\
Any field of a recipe can be changed by its path, with a value as in YAML:

  limner train llamagen/tiny --optimizer.lr 3e-4 --budget.seconds 60
  limner train my_recipe.yaml --data.classes "[cat, dog]" --output runs/pets

`limner recipes` lists the packaged recipes.
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "train",
        help="train a generator as a recipe says",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner train RECIPE [--output DIR] [--init DIR] [--plugin FILE] [--FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument("recipe", metavar="RECIPE", help="a packaged name, or a YAML file")
    parser.add_argument("--output", metavar="DIR", help="folder that the run is written to")
    parser.add_argument(
        "--init", metavar="DIR", help="weights to start from (the same as --model.weights)"
    )
    add_plugin(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from limner.training import load_recipe, train

    fields = dict(arguments.fields)
    for name, value in (("output", arguments.output), ("model.weights", arguments.init)):
        if value is not None:
            fields[name] = value
    trained = train(load_recipe(arguments.recipe, fields))
    return INTERRUPTED if trained.interrupted else 0
