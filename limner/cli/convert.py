"""`limner convert`: official weights become a part in limner's own format."""

from __future__ import annotations

import argparse

from limner.cli.parser import Verbs, add_dtype, assignment


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser("convert", help="turn official weights into limner's format")
    parser.add_argument(
        "source", metavar="FILE", help=".pt, .pth, .ckpt, .bin, .safetensors, or user/name/file"
    )
    parser.add_argument("destination", metavar="DIR", help="folder to be written")
    parser.add_argument("--system", metavar="NAME", help="whose weights (default: told by names)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        type=assignment,
        metavar="NAME=VALUE",
        help="a field of the configuration that the weights do not tell, as in heads=16",
    )
    parser.add_argument("--ema", action="store_true", help="the averaged weights of the file")
    add_dtype(parser, "type of the numbers that are written (default: as they are)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Convert, and say what was made."""
    import torch

    from limner.hub.convert import convert

    made = convert(
        arguments.source,
        arguments.destination,
        system=arguments.system,
        given=dict(arguments.set),
        ema=arguments.ema,
        dtype=None if arguments.dtype is None else getattr(torch, arguments.dtype),
    )
    variant = f" ({made.variant})" if made.variant else ""
    print(
        f"{made.directory}: {made.kind} of {made.system}{variant}, {made.parameters:,} parameters"
    )
    print(f"source   {made.source}")
    print(f"sha256   {made.sha256}")
    print(f"licence  {made.licence}")
    return 0
