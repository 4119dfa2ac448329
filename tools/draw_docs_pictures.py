"""Draw the documentation's pictures from a trained run.

    python tools/draw_docs_pictures.py runs/quickstart llamagen --guidance 2.5 --top-p 0.98

writes docs/images/NAME.png (a row a class) and docs/images/NAME.gif (how they came about).
"""

from __future__ import annotations

import argparse
from pathlib import Path

from PIL import Image

from limner import Pipeline
from limner.show.animation import save_animation
from limner.show.grid import contact_sheet
from limner.show.png import save_png

IMAGES = Path(__file__).parent.parent / "docs" / "images"
EACH = 6
FRAMES = 10


def main() -> None:
    """Read the command line, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of the run")
    parser.add_argument("name", help="of the pictures")
    parser.add_argument("--guidance", type=float, default=2.5)
    parser.add_argument("--top-p", type=float, default=1.0)
    parser.add_argument("--temperature", type=float, default=1.0)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    pipeline = Pipeline.from_pretrained(asked.run)
    settings = {
        "guidance": asked.guidance,
        "top_p": asked.top_p,
        "temperature": asked.temperature,
        "seed": asked.seed,
    }
    classes = [name for name in pipeline.classes for _ in range(EACH)]
    sheets = []
    for preview in pipeline.stream(classes=classes, **settings):
        every = max(1, (preview.total or 1) // FRAMES)
        if preview.step % every == 0 or preview.step == preview.total:
            sheets.append(_twice(contact_sheet(preview.pictures, columns=EACH)))
    save_png(sheets[-1], IMAGES / f"{asked.name}.png", {"run": Path(asked.run).name, **settings})
    save_animation(sheets, IMAGES / f"{asked.name}.gif")


def _twice(sheet: Image.Image) -> Image.Image:
    return sheet.resize((2 * sheet.width, 2 * sheet.height), Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
