"""`limner tune`: a trained pipeline learns something more."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import Parser, Verbs

EXAMPLES = """\
A word is learned that stands for one subject, from a few pictures of it (ARBooth). What comes out
is a pipeline, which still draws the rest:

  limner tune subject runs/infinity rex/*.jpg --word "<rex>" --kind dog --text-encoder flan-t5-xl
  limner sample runs/infinity-rex --prompt "a photo of <rex> dog on a beach"

  limner tune subject runs/var fox/ --word rex --kind Animals --optimizer.lr 1e-3 --budget.steps 400
  limner sample runs/var-rex --class rex
"""


def add(verbs: Verbs) -> None:
    """Add the verb and its own verbs."""
    tune = verbs.add_parser("tune", help="teach a trained pipeline a subject")
    ways = tune.add_subparsers(metavar="VERB", required=True)
    parser: Parser = ways.add_parser(
        "subject",
        help="learn a word for a subject from a few pictures of it",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        usage="limner tune subject PIPELINE PICTURES ... --word WORD --kind KIND [--output DIR] "
        "[--text-encoder DIR] [--FIELD VALUE ...]",
        fields=True,
    )
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder, or user/name on the hub")
    parser.add_argument(
        "pictures",
        nargs="+",
        metavar="PICTURES",
        help="two or more files of one subject, or a folder",
    )
    parser.add_argument("--word", required=True, help="that will stand for the subject")
    parser.add_argument(
        "--kind", required=True, help="what it is: a class of the pipeline, or a noun for prompts"
    )
    parser.add_argument("--output", metavar="DIR", help="folder (the pipeline's name and the word)")
    parser.add_argument("--text-encoder", metavar="DIR", help="T5 weights, where they are needed")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Tune."""
    from limner.pipeline.index import find, read_index
    from limner.tuning import subject_recipe, tune_subject

    size = read_index(find(arguments.pipeline))["size"][0]
    word = "".join(letter for letter in arguments.word if letter.isalnum()) or "subject"
    output = arguments.output or f"runs/{Path(arguments.pipeline).name}-{word}"
    values: dict[str, Any] = {
        "name": f"{Path(arguments.pipeline).name}/{word}",
        "pipeline": arguments.pipeline,
        "word": arguments.word,
        "kind": arguments.kind,
        "text_encoder": arguments.text_encoder,
        "data": {"source": "+".join(arguments.pictures), "size": size},
        "output": output,
    }
    recipe = subject_recipe(values, arguments.fields)
    return INTERRUPTED if tune_subject(recipe).interrupted else 0
