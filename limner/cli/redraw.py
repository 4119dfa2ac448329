"""One picture again, from what its file says of it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageChops

from limner.cli.drawing import Draw, draw_batch, make_record
from limner.cli.edited import check_unchanged, opened
from limner.cli.exit_codes import DIFFERS
from limner.cli.pipelines import load
from limner.cli.record import Record, read_record
from limner.cli.watch import Watch
from limner.core.config import from_dict
from limner.core.errors import CheckpointError, DataError
from limner.pipeline import Pipeline, Settings
from limner.show import save_clip, save_png
from limner.show.clip import SUFFIXES


def redraw(source: str, pipeline: str | None, arguments: argparse.Namespace) -> int:
    """Draw a picture again, save it as <name>-again.png, and say whether it is the same.

    Args:
        source: file of the picture.
        pipeline: where its pipeline is now; None: where it was.
        arguments: output, device, dtype, preview.

    Returns:
        The exit code: DIFFERS if the picture is not the same although the weights are.

    Raises:
        DataError: the file does not say how it was drawn, or what was edited has changed.
        CheckpointError: the pipeline has other weights, and was not named by hand.
    """
    record = read_record(source)
    draw: Draw = Pipeline.__call__
    if record.edited is not None:
        check_unchanged(record.edited)
        draw = opened(record.edited)
    settings = _settings(record, source)
    loaded = load(
        pipeline or record.pipeline,
        arguments.device or record.device,
        arguments.dtype or record.dtype,
        arguments.text_encoder or record.text_encoder,
        record.draft,
    )
    same_weights = loaded.weights == record.weights
    if not same_weights and pipeline is None:
        raise CheckpointError(
            f"{record.pipeline} has other weights than {source} was drawn with; "
            f"name it by --pipeline to draw with them all the same"
        )
    with Watch(loaded.pipeline, len(record.batch), arguments.preview, animate=False) as watch:
        result = draw_batch(
            lambda **batch: draw(loaded.pipeline, **batch, **settings), record.batch, watch
        )
    image = result.images[record.index]
    path = Path(arguments.output) / f"{Path(source).stem}-again.png"
    told = make_record(loaded, result, record.batch, record.index, record.edited)
    save_png(image, path, told.as_json())
    print(path)
    if result.pictures.dim() == 5:
        film = path.with_suffix(SUFFIXES[0])
        save_clip(result.pictures[record.index], film)
        print(film)
    difference = _difference(image, source)
    if difference is None:
        return 0
    reason = "another machine, device or torch" if same_weights else "other weights"
    print(f"limner: {path} is not the same as {source} ({reason}): {difference}", file=sys.stderr)
    return DIFFERS if same_weights else 0


def _settings(record: Record, source: str) -> dict[str, Any]:
    """Return the settings of the picture's batch as a pipeline takes them."""
    shared = record.shared_settings()
    if not isinstance(shared.get("guidance", 1.0), (int, float)):
        raise DataError(f"{source}: its guidance schedule cannot be read back")
    settings = from_dict(Settings, shared, f"{source}: settings")
    return {name: getattr(settings, name) for name in shared}


def _difference(image: Image.Image, source: str) -> str | None:
    """Return how a picture differs from the one in a file, or None if it does not."""
    with Image.open(source) as opened:
        before = opened.convert(image.mode)
    if before.size != image.size:
        return f"{image.width}x{image.height} instead of {before.width}x{before.height} pixels"
    largest = int(np.asarray(ImageChops.difference(before, image)).max())
    return f"levels differ by up to {largest} of 255" if largest else None
