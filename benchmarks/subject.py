"""Draw the documentation's picture of a subject that the packaged model has learned.

    python benchmarks/subject.py

paints five cat faces of Noto blue, which is what no packaged drawing shows, tunes the packaged
model on them by `limner tune subject`, and writes docs/images/subject.png and
benchmarks/results/subject.json. Rows are named in `ROWS`.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from record import circumstances, write
from torch import Tensor

from limner.cli import main as limner
from limner.data import load_pictures
from limner.data.packaged import PackagedSource
from limner.hub.shipped import FIRST
from limner.pipeline import Pipeline
from limner.show import contact_sheet, save_png
from limner.training.run import read_log

FACES = (
    "smiling cat face with open mouth",
    "cat face with wry smile",
    "kissing cat face with closed eyes",
    "weary cat face",
    "pouting cat face",
)
PICTURE = Path(__file__).parents[1] / "docs" / "images" / "subject.png"
HUE = 120  # by which they are turned, of 256
TUNE = ("--budget.steps", "120", "--optimizer.lr", "5e-4", "--prior.weight", "3")
ROWS = (  # what is asked, and whether of the model before or after
    ("a photo of cat face", "before"),
    ("a photo of cat face", "after"),
    ("a photo of rex cat face", "after"),
    ("crying rex cat face", "after"),
    ("pizza", "before"),
    ("pizza", "after"),
)


def painted(drawing: Image.Image) -> Image.Image:
    """Return a transparent drawing in another hue."""
    hue, *others = drawing.convert("RGB").convert("HSV").split()
    turned = hue.point([(level + HUE) % 256 for level in range(256)])
    colours = Image.merge("HSV", (turned, *others)).convert("RGB")
    colours.putalpha(drawing.getchannel("A"))
    return colours


def paint(folder: Path) -> None:
    """Write the pictures of the subject."""
    noto = PackagedSource("noto")
    places = {noto.caption(index): index for index in range(len(noto))}
    for number, face in enumerate(FACES):
        with Image.open(noto.open(places[face])) as drawing:
            painted(drawing.convert("RGBA")).save(folder / f"{number}.png")


def drawn(pipelines: dict[str, Pipeline]) -> Tensor:
    """Return the rows of pictures, float [rows * faces, 3, H, W]."""
    seeds = list(range(len(FACES)))
    return torch.cat(
        [pipelines[name](prompts=[said] * len(seeds), seed=seeds).pictures for said, name in ROWS]
    )


def measured(folder: Path) -> dict[str, Any]:
    """Return both measurements before and after, of a run's log."""
    logged = [line for line in read_log(folder) if "held_out" in line]
    names = ("held_out_subject_loss", "held_out_prior_distance")
    return {
        when: {name.removeprefix("held_out_"): line[name] for name in names}
        for when, line in (("before", logged[0]), ("after", logged[-1]))
    }


def main() -> None:
    """Tune, draw and save."""
    with tempfile.TemporaryDirectory() as folder:
        rex, tuned = Path(folder, "rex"), Path(folder, "emoji-rex")
        rex.mkdir()
        paint(rex)
        words = ["tune", "subject", FIRST, str(rex), "--word", "rex", "--kind", "cat face"]
        if limner([*words, *TUNE, "--output", str(tuned)]) != 0:
            raise SystemExit("it could not be tuned")
        pipelines = {
            "before": Pipeline.from_pretrained(FIRST),
            "after": Pipeline.from_pretrained(tuned),
        }
        real = load_pictures(rex, pipelines["before"].size[0]).to_float()
        sheet = contact_sheet(torch.cat([real, drawn(pipelines)]), columns=len(FACES), zoom=2)
        save_png(sheet, PICTURE)
        result = {**circumstances("python benchmarks/subject.py"), "tune": list(TUNE)}
        result = {**result, "pictures": len(FACES), "metrics": measured(tuned)}
    write("subject", result)


if __name__ == "__main__":
    main()
