"""`limner sample`: pictures or clips from a trained pipeline, or one drawn again from its file."""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from limner.cli.asking import (
    add_asking,
    add_output,
    forbid_asking,
    pictures_asked,
    settings_given,
)
from limner.cli.edited import Edit, checksums, opened
from limner.cli.parser import UsageError, Verbs, picture_size
from limner.core.errors import check

if TYPE_CHECKING:
    from limner.decoding.speculation import Tally
    from limner.pipeline import Pipeline


CLIP_OPTIONS = ("first_frames", "given", "out", "fps")

_NAME = re.compile(r"[~.]?[\w.~-]*/\S*")  # what has a slash and no spaces is a path or on the hub


def add(verbs: Verbs) -> None:
    """Add the verb."""
    parser = verbs.add_parser(
        "sample",
        help="draw pictures or clips",
        description="Draw pictures: `limner sample 'a red fox'` with the packaged model, `limner "
        "sample runs/mine --class cat` with one of yours. Every file carries its settings: "
        "`limner sample --from picture.png` draws it again, bit for bit. Clips are GIF or MP4 "
        "files, beside a PNG of their frames in a row.",
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
    parser.add_argument(
        "--draft",
        metavar="PIPELINE",
        help="a smaller pipeline that drafts steps of a model with a diffusion head: pictures are "
        "distributed as without it, in fewer passes",
    )
    add_asking(parser)
    parser.add_argument("--size", type=picture_size, metavar="HxW", help="in pixels")
    _add_clips(parser)
    add_output(parser)
    parser.set_defaults(run=run)


def _add_clips(parser: argparse.ArgumentParser) -> None:
    clips = parser.add_argument_group("of clips")
    clips.add_argument("--frames", type=int, metavar="N", help="of a clip (the pipeline's)")
    clips.add_argument(
        "--first-frames",
        metavar="PATH",
        help="a GIF, a video or a folder of frames that clips go on from: what they say is held",
    )
    clips.add_argument("--given", type=int, metavar="N", help="so many of them (all)")
    clips.add_argument(
        "--out", metavar="FILE", help="the clip's file, .gif or .mp4, in place of --output DIR"
    )
    clips.add_argument("--fps", type=float, metavar="N", help="frames a second (8)")


def run(arguments: argparse.Namespace) -> int:
    """Draw."""
    if arguments.source is not None:
        forbid_asking(arguments, "--from draws a picture with its own settings")
        for option in CLIP_OPTIONS:
            if getattr(arguments, option) is not None:
                name = option.replace("_", "-")
                raise UsageError(f"--{name} is not accepted: --from draws a clip with its own")
        if arguments.draft is not None:
            raise UsageError("--draft is not accepted: --from draws a picture with its own")
        if len(arguments.words) > 1:
            raise UsageError("prompts are not accepted: --from draws a picture with its own")

        from limner.cli.redraw import redraw

        return redraw(
            arguments.source, arguments.moved or next(iter(arguments.words), None), arguments
        )
    where, said = named(arguments.words)
    if said:
        arguments.prompts = [*said, *(arguments.prompts or ())]
    pictures, settings = pictures_asked(arguments), settings_given(arguments)
    edit = _continued(arguments)
    go_on = None if edit is None else opened(edit)  # before anything is loaded

    from limner.cli.drawing import draw_all
    from limner.cli.pipelines import load

    loaded = load(where, arguments.device, arguments.dtype, arguments.text_encoder, arguments.draft)
    tally = None if arguments.draft is None else _tally(loaded.pipeline)
    code = draw_all(
        loaded,
        pictures,
        partial(loaded.pipeline if go_on is None else partial(go_on, loaded.pipeline), **settings),
        arguments,
        edited=edit and replace(edit, checksums=checksums(edit)),
    )
    if tally is not None:
        print(f"limner: {tally}", file=sys.stderr)
    return code


def _tally(pipeline: Pipeline) -> Tally:
    """Return what counts the passes of a pipeline with a draft."""
    from limner.decoding.speculation import Tally

    tally = Tally()
    pipeline.generator.head.watches.append(tally)  # type: ignore[attr-defined]
    return tally


def _continued(arguments: argparse.Namespace) -> Edit | None:
    """Return what says that clips go on from first frames, if they do."""
    if arguments.fps is not None:
        from limner.show.clip import check_rate

        check_rate(arguments.fps, "fps")
    if arguments.out is not None:
        from limner.show.clip import check_clip_file

        check_clip_file(arguments.out)
    if arguments.first_frames is None:
        if arguments.given is not None:
            raise UsageError("--given is not accepted: it counts frames of --first-frames")
        return None
    check(arguments.given is None or arguments.given > 0, "given", arguments.given, "1 or more")
    return Edit("continue", str(Path(arguments.first_frames).resolve()), keep=arguments.given)


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
