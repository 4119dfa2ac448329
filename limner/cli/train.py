"""`limner train`: a recipe becomes a trained pipeline or tokenizer."""

from __future__ import annotations

import argparse

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, Verbs, add_plugin

EXAMPLES = """\
Any field of a recipe can be changed by its path, with a value as in YAML:

  limner train llamagen/tiny --optimizer.lr 3e-4 --budget.seconds 60
  limner train my_recipe.yaml --data.classes "[cat, dog]" --output runs/pets
  limner train runs/pets --resume                # goes on, after a kill or with a larger budget
  torchrun --nproc-per-node 8 -m limner train llamagen/b-256 --data.source imagenet/train

`limner recipes` lists the packaged recipes.
"""


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser: Parser = verbs.add_parser(
        "train",
        help="train a generator or a tokenizer as a recipe says",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner train RECIPE [--output DIR] [--init DIR] [--resume] [--plugin FILE] "
        "[--FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument(
        "recipe", metavar="RECIPE", help="a packaged name, a YAML file, or the folder of a run"
    )
    parser.add_argument("--output", metavar="DIR", help="folder that the run is written to")
    parser.add_argument(
        "--init",
        metavar="DIR",
        help="weights to start from: a folder of limner's, of a generator or a tokenizer",
    )
    parser.add_argument(
        "--resume", action="store_true", help="go on with the run in the output, if there is one"
    )
    add_plugin(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Train."""
    from limner.training import TokenizerRecipe, load_recipe, train

    fields = dict(arguments.fields)
    if arguments.output is not None:
        fields["output"] = arguments.output
    recipe = load_recipe(arguments.recipe, fields)
    if arguments.init is not None:
        part = "tokenizer" if isinstance(recipe, TokenizerRecipe) else "model"
        recipe = load_recipe(arguments.recipe, {**fields, f"{part}.weights": arguments.init})
    trained = train(recipe, resume=arguments.resume)
    return INTERRUPTED if trained.interrupted else 0
