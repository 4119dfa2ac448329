"""`limner edit`: a picture of which a part, a border or the fine scales are drawn anew."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from limner.cli.asking import add_asking, add_output, pictures_asked, settings_given
from limner.cli.edited import Edit, checksums, opened
from limner.cli.parser import UsageError, Verbs, picture_size


def add(verbs: Verbs) -> None:
    """Add the verb and its own verbs."""
    edit = verbs.add_parser(
        "edit",
        help="draw part of a picture anew",
        description="Draw part of a picture anew, and hold the tokens of the rest. Every file "
        "carries its settings: `limner sample --from picture.png` draws it again.",
    )
    ways = edit.add_subparsers(metavar="VERB", required=True)
    for name, help, add_options in (
        ("in-paint", "draw anew what a mask or a box marks", _add_mask),
        ("replace-class", "draw another class where a mask or a box marks", _add_mask),
        ("out-paint", "place the picture on a larger canvas, and draw the rest", _add_place),
        ("refine", "keep coarse scales, draw the finer ones anew", _add_keep),
        ("upscale", "take coarse scales from a small picture, draw finer ones", _add_enlarging),
    ):
        parser = ways.add_parser(name, help=help)
        parser.add_argument("pipeline", metavar="PIPELINE", help="folder, or user/name on the hub")
        parser.add_argument("picture", metavar="PICTURE", help="a file")
        add_options(parser)
        add_asking(parser)
        add_output(parser)
        parser.set_defaults(run=run, verb=name)


def run(arguments: argparse.Namespace) -> int:
    """Edit."""
    pictures = pictures_asked(arguments)
    edit = _asked_for(arguments)
    draw = opened(edit)  # before anything is loaded

    from limner.cli.drawing import draw_all
    from limner.cli.pipelines import load

    loaded = load(arguments.pipeline, arguments.device, arguments.dtype, arguments.text_encoder)
    settings = settings_given(arguments)
    return draw_all(
        loaded,
        pictures,
        lambda **batch: draw(loaded.pipeline, **batch, **settings),
        arguments,
        prefix=f"{Path(arguments.picture).stem}-",
        edited=replace(edit, checksums=checksums(edit)),
    )


def _asked_for(arguments: argparse.Namespace) -> Edit:
    """Return the edit that is asked for.

    Raises:
        LimnerError: something it needs was left out.
    """
    mask = getattr(arguments, "mask", None)
    if arguments.verb == "replace-class" and not arguments.labels:
        raise UsageError("replace-class needs the other class: give it by --class")
    return Edit(
        arguments.verb,
        str(Path(arguments.picture).resolve()),
        None if mask is None else str(Path(mask).resolve()),
        getattr(arguments, "box", None),
        getattr(arguments, "place", None),
        getattr(arguments, "keep", None),
    )


def _add_mask(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "mask", nargs="?", metavar="MASK", help="a file of the same size; white is drawn anew"
    )
    parser.add_argument(
        "--box",
        type=_numbers(float, 4),
        metavar="TOP,LEFT,BOTTOM,RIGHT",
        help="instead of MASK, as shares of the picture: 0.25,0.25,0.75,0.75 is its middle",
    )


def _add_place(parser: argparse.ArgumentParser) -> None:
    _add_size(parser, "of the canvas, in pixels (the pipeline's)")
    parser.add_argument(
        "--place",
        type=_numbers(int, 2),
        metavar="ROW,COLUMN",
        help="pixel of the canvas where the picture's top left corner stands (in the middle); "
        "write --place=-8,0 for one that is outside",
    )


def _add_keep(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--keep", type=int, required=True, metavar="K", help="number of scales that are kept"
    )


def _add_enlarging(parser: argparse.ArgumentParser) -> None:
    _add_size(parser, "to draw, in pixels (the pipeline's)")
    parser.add_argument(
        "--keep",
        type=int,
        metavar="K",
        help="number of scales taken from the picture (those no finer than it)",
    )


def _add_size(parser: argparse.ArgumentParser, help: str) -> None:
    parser.add_argument("--size", type=picture_size, metavar="HxW", help=help)


def _numbers(kind: type, count: int) -> Callable[[str], tuple[Any, ...]]:
    """Return a reader of so many numbers between commas."""

    def read(text: str) -> tuple[Any, ...]:
        try:
            values = tuple(kind(part) for part in text.split(","))
        except ValueError:
            values = ()
        if len(values) != count:
            raise UsageError(f"{text!r} is not accepted: write {count} numbers between commas")
        return values

    return read
