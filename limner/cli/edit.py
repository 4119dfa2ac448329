"""`limner edit in-paint`: part of a picture is drawn anew."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from limner.cli.asking import add_asking, add_output, pictures_asked, settings_given
from limner.cli.parser import Verbs
from limner.core.errors import DataError


def add(verbs: Verbs) -> None:
    """Add the verb and its own verbs."""
    edit = verbs.add_parser("edit", help="draw part of a picture anew")
    ways = edit.add_subparsers(metavar="VERB", required=True)
    parser = ways.add_parser("in-paint", help="draw anew what a mask marks")
    parser.add_argument("pipeline", metavar="PIPELINE", help="folder, or user/name on the hub")
    parser.add_argument("picture", metavar="PICTURE", help="a file")
    parser.add_argument("mask", metavar="MASK", help="of the same size; white is drawn anew")
    add_asking(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Edit."""
    pictures = pictures_asked(arguments)
    picture, mask = open_image(arguments.picture), open_image(arguments.mask)

    from limner.data.images import to_mask
    from limner.pipeline import check_mask

    check_mask(to_mask(mask), (picture.height, picture.width))  # before anything is loaded

    from limner.cli.drawing import draw_all
    from limner.cli.pipelines import load

    loaded = load(arguments.pipeline, arguments.device, arguments.dtype, arguments.text_encoder)
    settings = settings_given(arguments)
    files = {"picture": arguments.picture, "mask": arguments.mask}
    return draw_all(
        loaded,
        pictures,
        lambda **batch: loaded.pipeline.edit(picture, mask, **batch, **settings),
        arguments,
        prefix=f"{Path(arguments.picture).stem}-",
        edited={name: str(Path(file).resolve()) for name, file in files.items()},
    )


def open_image(path: str) -> Any:
    """Return a picture's file as a PIL image.

    Raises:
        DataError: it is missing or no picture.
    """
    from PIL import Image

    try:
        with Image.open(path, formats=("PNG", "JPEG", "WEBP", "BMP", "GIF")) as image:
            image.load()
            return image.copy()
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        reason = (
            error.strerror if isinstance(error, OSError) else None
        ) or "it is no sound picture"
        raise DataError(f"{path} cannot be read: {reason}") from None
