"""The options by which `limner sample` and `limner edit` are told what to draw, and how."""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from limner.cli.parser import UsageError, add_dtype, add_plugin
from limner.core.errors import check

SETTINGS = (
    *("guidance", "temperature", "top_k", "top_p", "min_p", "steps"),
    *("smooth", "annealing", "size", "cache", "frames"),
)
ASKED = {"labels": "classes", "prompts": "prompts", "styles": "styles"}
"""What pictures are asked for by, and what messages call it."""


@dataclass(frozen=True)
class Picture:
    """One picture that is asked for.

    Args:
        label: name or number of its class, or None.
        prompt: its text, or None.
        style: name or number of its style, or None.
        seed: of its noise.
    """

    label: int | str | None
    prompt: str | None
    seed: int
    style: int | str | None = None


def add_asking(parser: argparse.ArgumentParser) -> None:
    """Add what pictures are asked for, and how each is drawn."""
    what = parser.add_argument_group("what to draw")
    what.add_argument(
        "--class",
        dest="labels",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="classes, by name or number",
    )
    what.add_argument("--prompt", dest="prompts", nargs="+", action="extend", metavar="TEXT")
    what.add_argument(
        "--style",
        dest="styles",
        nargs="+",
        action="extend",
        metavar="NAME",
        help="styles, for models that know some, by name or number",
    )
    what.add_argument("--count", type=int, metavar="N", help="pictures of each (1)")
    what.add_argument("--seed", type=int, metavar="N", help="of the first picture (0), then N + 1")
    how = parser.add_argument_group("how to draw (left out: the pipeline's default)")
    how.add_argument("--guidance", type=float, metavar="S", help="scale of guidance; 1: off")
    how.add_argument("--temperature", type=float, metavar="T", help="0: the most likely token")
    how.add_argument("--top-k", type=int, metavar="K", help="the K most likely tokens; 0: all")
    how.add_argument(
        "--top-p", type=float, metavar="P", help="the likeliest that make up P; 1: all"
    )
    how.add_argument("--min-p", type=float, metavar="P", help="at least P of the likeliest; 0: all")
    how.add_argument("--steps", type=int, metavar="N", help="where the order lets one choose")
    how.add_argument(
        "--smooth",
        action="store_const",
        const=True,
        help="draw mixtures of codes: pictures without hard edges, where the tokenizer can mix",
    )
    how.add_argument(
        "--annealing",
        metavar="A-B",
        help="from A steps of a diffusion or flow head at first to B at last: 50-5, 50-5-cosine",
    )
    how.add_argument(
        "--cache",
        type=share_or_path,
        metavar="SHARE",
        help="keep this share of keys and values, 0.1 say (ScaleKV); or the file of a budget; for "
        "models that draw scale by scale",
    )


def share_or_path(text: str) -> float | str:
    """Return a number, or the text that is none."""
    try:
        return float(text)
    except ValueError:
        return text


def add_output(parser: argparse.ArgumentParser) -> None:
    """Add where pictures go, what is shown, and what draws them."""
    parser.add_argument("--output", default="samples", metavar="DIR", help="folder (%(default)s)")
    parser.add_argument("--grid", action="store_true", help="also write grid.png, all on one page")
    parser.add_argument("--animation", action="store_true", help="also write drawing.gif, by steps")
    parser.add_argument(
        "--preview",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="show pictures in the terminal as they are drawn",
    )
    parser.add_argument("--batch", type=int, default=8, metavar="N", help="drawn at once (8)")
    parser.add_argument("--device", metavar="NAME", help="cpu, cuda, mps, ... (the fastest)")
    parser.add_argument(
        "--text-encoder", metavar="DIR", help="T5 or CLIP weights, for models that read them"
    )
    add_dtype(parser, "of the generator's weights (default: as saved)")
    add_plugin(parser)


def settings_given(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the settings that were given; the pipeline has defaults for the others."""
    values = {name: getattr(arguments, name, None) for name in SETTINGS}
    return {name: value for name, value in values.items() if value is not None}


def pictures_asked(arguments: argparse.Namespace) -> list[Picture]:
    """Return every picture that is asked for, those of one class or prompt in a row.

    One prompt, class or style goes with all of the others.

    Raises:
        ConfigError: a count that is not accepted, or not as many classes as prompts or styles.
    """
    given = {name: getattr(arguments, name) or [None] for name in ASKED}
    count = 1 if arguments.count is None else arguments.count
    check(count >= 1, "count", count, "1 or more")
    check(arguments.batch >= 1, "batch", arguments.batch, "1 or more")
    longest = max(given, key=lambda name: len(given[name]))
    most = len(given[longest])
    for name, values in given.items():
        fits = len(values) in (1, most)
        check(fits, name, len(values), f"one, or as many as {ASKED[longest]}, {most}")
    seeds = itertools.count(arguments.seed or 0)
    labels, prompts, styles = (values * (most // len(values)) for values in given.values())
    return [
        Picture(label, prompt, next(seeds), style)
        for label, prompt, style in zip(labels, prompts, styles, strict=True)
        for _ in range(count)
    ]


def asked_together(pictures: Sequence[Picture]) -> dict[str, Any]:
    """Return pictures that are drawn together as a pipeline is asked for them."""
    asked: dict[str, Any] = {"seed": [picture.seed for picture in pictures]}
    for name, field in (("classes", "label"), ("prompts", "prompt"), ("styles", "style")):
        values = [getattr(picture, field) for picture in pictures]
        asked[name] = None if values[0] is None else values
    if not any(asked[name] for name in ASKED.values()):
        asked["count"] = len(pictures)
    return asked


def columns(arguments: argparse.Namespace) -> int | None:
    """Return the columns of a page: a row for each class or prompt, or None to leave it open."""
    several = any(len(getattr(arguments, name) or ()) > 1 for name in ASKED)
    return arguments.count if several and (arguments.count or 1) > 1 else None


def forbid_asking(arguments: argparse.Namespace, reason: str) -> None:
    """Raise if anything was asked for, or a setting given.

    Raises:
        UsageError: names the first option that was.
    """
    options = {"labels": "class", "prompts": "prompt", "styles": "style"}
    options |= {"count": "count", "seed": "seed"}
    options |= {name: name.replace("_", "-") for name in SETTINGS}
    for name, option in options.items():
        if getattr(arguments, name, None) is not None:
            raise UsageError(f"--{option} is not accepted: {reason}")
