"""The first act: pictures by the model that comes with the package, within seconds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from limner.hub.shipped import FIRST
from limner.pipeline import Pipeline
from limner.show.animation import save_animation
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.show.terminal import LiveView

CAPTIONS = ("fox", "strawberry", "penguin", "tulip", "grinning face", "rocket")
EVERY = 1  # steps between two looks at the pictures: a scale each


@dataclass(frozen=True, eq=False)
class Shown:
    """What the packaged model drew.

    Args:
        pictures: float [styles x captions, 3, H, W] in [-1, 1], style after style.
        captions: what was asked for.
        styles: in which it was drawn.
        frames: a contact sheet of all pictures after every few steps.
        settings: of each picture.
    """

    pictures: Tensor
    captions: tuple[str, ...]
    styles: tuple[str, ...]
    frames: list[Any]
    settings: dict[str, Any]


def draw_shipped(console: Console, captions: Sequence[str] = CAPTIONS) -> Shown:
    """Draw captions in all styles with the packaged model, with a live preview."""
    pipeline = Pipeline.from_pretrained(FIRST)
    styles = pipeline.styles
    prompts = [caption for _ in styles for caption in captions]
    drawn_in = [style for style in styles for _ in captions]
    frames: list[Any] = []
    pictures = torch.empty(0)
    with LiveView(console, "") as view:
        for preview in pipeline.stream(prompts=prompts, styles=drawn_in, every=EVERY):
            pictures = preview.pictures
            view.show(pictures)
            frames.append(contact_sheet(pictures, columns=len(captions)))
    settings = {"pipeline": FIRST, "captions": list(captions), "styles": list(styles), "seed": 0}
    return Shown(pictures, tuple(captions), styles, frames, settings)


def save_shown(shown: Shown, folder: Path) -> None:
    """Write shipped.png and shipped.gif."""
    page = contact_sheet(shown.pictures, columns=len(shown.captions))
    save_png(page, folder / "shipped.png", shown.settings)
    save_animation(shown.frames, folder / "shipped.gif")
