"""`limner sample`: pictures from a trained pipeline, or one picture drawn again from its file."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

from limner.cli.asking import (
    add_asking,
    add_output,
    forbid_asking,
    pictures_asked,
    settings_given,
)
from limner.cli.parser import UsageError, Verbs, picture_size

_NAME = re.compile(r"[~.]?[\w.~-]*/\S*")  # what has a slash and no spaces is a path or on the hub


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="draw pictures",
        description="Draw pictures: `limner sample 'a red fox'` with the packaged model, `limner "
        "sample runs/mine --class cat` with one of yours. Every file carries its settings: "
        "`limner sample --from picture.png` draws it again, bit for bit.",
    )
    parser.add_argument(
        "words",
        nargs="*",
        metavar="PIPELINE | TEXT",
        help="a folder, user/name on the hub or the packaged emoji, which may be left out; then "
        "prompts",
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

        return redraw(arguments.source, arguments.moved or _first(arguments.words), arguments)
    where, said = named(arguments.words)
    if said:
        arguments.prompts = [*said, *(arguments.prompts or ())]
    pictures, settings = pictures_asked(arguments), settings_given(arguments)

    from limner.cli.drawing import draw_all
    from limner.cli.pipelines import load

    loaded = load(where, arguments.device, arguments.dtype, arguments.text_encoder)
    return draw_all(
        loaded, pictures, lambda **batch: loaded.pipeline(**batch, **settings), arguments
    )


def named(words: Sequence[str]) -> tuple[str, list[str]]:
    """Return which pipeline words name, the packaged one if none, and what is said beside it.

    Raises:
        UsageError: nothing is said.
    """
    from limner.hub.shipped import FIRST, shipped_pipelines

    if not words:
        raise UsageError(
            "say what to draw, `limner sample 'a red fox'`, or with what: a folder, or a picture "
            "by --from"
        )
    first = words[0]
    looks_like_one = _NAME.fullmatch(first) or Path(first).expanduser().exists()
    if looks_like_one or first in shipped_pipelines():
        return first, list(words[1:])
    return FIRST, list(words)


def _first(words: Sequence[str]) -> str | None:
    return words[0] if words else None
