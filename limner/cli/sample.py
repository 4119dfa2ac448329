"""`limner sample`: pictures from a trained pipeline, or one picture drawn again from its file."""

from __future__ import annotations

import argparse

from limner.cli.asking import (
    add_asking,
    add_output,
    forbid_asking,
    pictures_asked,
    settings_given,
)
from limner.cli.parser import UsageError, Verbs, picture_size


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="draw pictures",
        description="Draw pictures: `limner sample runs/mine --class cat`, or by a text, `limner "
        "sample runs/mine 'a red fox'`. Every file carries its settings: `limner sample --from "
        "picture.png` draws it again, bit for bit.",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PIPELINE [TEXT]",
        help="a folder, or user/name on the hub; then prompts, for models that read them",
    )
    parser.add_argument("--from", dest="source", metavar="PNG", help="draw this picture again")
    parser.add_argument(
        "--pipeline", dest="moved", metavar="PIPELINE", help="where it is now, for --from"
    )
    add_asking(parser)
    parser.add_argument("--size", type=picture_size, metavar="HxW", help="in pixels")
    add_output(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Draw."""
    if arguments.source is not None:
        forbid_asking(arguments, "--from draws a picture with its own settings")
        if len(arguments.words) > 1:
            raise UsageError("prompts are not accepted: --from draws a picture with its own")

        from limner.cli.redraw import redraw

        return redraw(
            arguments.source, arguments.moved or next(iter(arguments.words), None), arguments
        )
    if not arguments.words:
        raise UsageError("PIPELINE is missing: give its folder, or a picture by --from")
    where, *said = arguments.words
    if said:
        arguments.prompts = [*said, *(arguments.prompts or ())]
    pictures, settings = pictures_asked(arguments), settings_given(arguments)

    from limner.cli.drawing import draw_all
    from limner.cli.pipelines import load

    loaded = load(where, arguments.device, arguments.dtype, arguments.text_encoder)
    return draw_all(
        loaded, pictures, lambda **batch: loaded.pipeline(**batch, **settings), arguments
    )
