"""Drawing batch by batch; every batch is saved as soon as it is drawn."""

from __future__ import annotations

import argparse
import re
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from PIL import Image

from limner import __version__
from limner.cli.asking import Picture, asked_together, columns
from limner.cli.edited import Edit
from limner.cli.exit_codes import INTERRUPTED
from limner.cli.parser import UsageError
from limner.cli.pipelines import Loaded
from limner.cli.record import Record
from limner.cli.watch import Watch
from limner.core.stopping import Stop
from limner.pipeline import Result
from limner.show import contact_sheet, save_animation, save_clip, save_png
from limner.show.clip import RATE, SUFFIXES

SEEN = 96  # smaller pictures are magnified about to this width on pages and in animations

Draw = Callable[..., Result]
"""Called with `classes`, `prompts`, `styles`, `seed`, `count`, `hooks`; knows all else."""


def draw_all(
    loaded: Loaded,
    pictures: Sequence[Picture],
    draw: Draw,
    arguments: argparse.Namespace,
    prefix: str = "",
    edited: Edit | None = None,
) -> int:
    """Draw and save pictures, then a page and an animation of them where they are asked for.

    Args:
        prefix: of the files' names.
        edited: see `Record`.

    Returns:
        The exit code; INTERRUPTED if Ctrl-C ended it, in which case finished pictures are kept.
    """
    for picture in pictures:
        if picture.label is not None:
            loaded.pipeline.class_number(picture.label)  # no late surprise by a wrong name
        if picture.style is not None:
            loaded.pipeline.style_number(picture.style)
    _check_kind(loaded, arguments)
    output = Path(arguments.output)
    drawn: dict[Path, Image.Image] = {}
    films: list[Path] = []
    watch = Watch(loaded.pipeline, len(pictures), arguments.preview, arguments.animation)
    code = 0
    try:
        with watch:
            for batch in _batches(pictures, arguments.batch):
                result = draw_batch(draw, batch, watch)
                if result.cache is not None:
                    held, share = f"{result.cache.bytes:,} bytes", f"{result.cache.share:.1%}"
                    print(f"limner: keys and values: {held}, {share} of all", file=sys.stderr)
                for index, image in enumerate(result.images):
                    record = make_record(loaded, result, batch, index, edited)
                    stem = _stem(arguments, f"{prefix}{name_of(record)}", len(pictures) == 1)
                    path = Path(f"{stem}.png")
                    with Stop([signal.SIGINT]) as stop:  # a file that is there is always told of
                        save_png(image, path, record.as_json())
                        drawn[path] = image
                        films += _save_film(result, index, stem, arguments)
                    if stop.asked:
                        raise KeyboardInterrupt
        extra = list(_save_pages(watch, drawn, arguments))
    except KeyboardInterrupt:
        code, extra = INTERRUPTED, []
        where = f" in {output}" if drawn else ""
        print(
            f"limner: interrupted: kept {len(drawn)} of {len(pictures)} pictures{where}",
            file=sys.stderr,
        )
    for path in [*drawn, *films, *extra]:
        print(path)
    return code


def draw_batch(draw: Draw, batch: Sequence[Picture], watch: Watch) -> Result:
    """Draw the pictures of one batch together."""
    return draw(**asked_together(batch), hooks=(watch,))


def make_record(
    loaded: Loaded,
    result: Result,
    batch: Sequence[Picture],
    index: int,
    edited: Edit | None = None,
) -> Record:
    """Return what the file of picture `index` of a batch says of it."""
    return Record(
        limner=__version__,
        pipeline=loaded.source,
        weights=loaded.weights,
        dtype=loaded.dtype,
        device=loaded.device,
        settings=result.settings[index],
        batch=tuple(batch),
        index=index,
        text_encoder=loaded.text_encoder,
        edited=edited,
        draft=loaded.draft,
    )


def name_of(record: Record) -> str:
    """Return a file's name without its ending: class or prompt, then the seed."""
    settings = record.settings
    asked = [settings.get(part) for part in ("prompt", "class")]
    text = next((str(part) for part in asked if part is not None), "picture")
    text += f" {settings['style']}" if "style" in settings else ""
    word = re.sub(r"\W+", "-", text.casefold()).strip("-")[:40] or "picture"
    return f"{word}-{settings['seed']}"


def _check_kind(loaded: Loaded, arguments: argparse.Namespace) -> None:
    """Raise UsageError where options of clips are given, and the pipeline draws pictures."""
    for option in ("out", "fps"):
        if loaded.pipeline.frames is None and getattr(arguments, option, None) is not None:
            raise UsageError(f"--{option} is not accepted: this pipeline draws pictures, no clips")


def _stem(arguments: argparse.Namespace, name: str, alone: bool) -> str:
    """Return the path of a picture's files without their ending."""
    if getattr(arguments, "out", None) is None:
        return str(Path(arguments.output) / name)
    stem = arguments.out[: -len(Path(arguments.out).suffix)]
    return stem if alone else f"{stem}-{name}"


def _save_film(
    result: Result, index: int, stem: str, arguments: argparse.Namespace
) -> Iterator[Path]:
    """Write clip `index` of a batch as it is watched, and yield its path; nothing for pictures."""
    if result.pictures.dim() == 5:
        out, rate = (getattr(arguments, option, None) for option in ("out", "fps"))
        path = Path(f"{stem}{Path(out).suffix if out else SUFFIXES[0]}")
        save_clip(result.pictures[index], path, rate or RATE)
        yield path


def _batches(pictures: Sequence[Picture], size: int) -> Iterator[tuple[Picture, ...]]:
    for begin in range(0, len(pictures), size):
        yield tuple(pictures[begin : begin + size])


def _save_pages(
    watch: Watch, drawn: dict[Path, Image.Image], arguments: argparse.Namespace
) -> Iterator[Path]:
    """Write grid.png and drawing.gif where they are asked for, and yield their paths."""
    images, across = list(drawn.values()), columns(arguments)
    zoom = max(1, SEEN // images[0].width)
    if arguments.grid:
        path = Path(arguments.output) / "grid.png"
        save_png(contact_sheet(images, across, [file.stem for file in drawn], zoom=zoom), path)
        yield path
    if arguments.animation:
        path = Path(arguments.output) / "drawing.gif"
        frames = [contact_sheet(frame, across, zoom=zoom) for frame in watch.film(images)]
        save_animation(frames, path)
        yield path
