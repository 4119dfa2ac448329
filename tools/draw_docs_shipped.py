"""Draw the documentation's pictures by the packaged model.

    python -m tools.draw_docs_shipped

writes docs/images/shipped.png and shipped.gif, which the quickstart begins with, and learned.png:
pairs of a caption and a style, chosen at random among those that it learned from.
"""

from __future__ import annotations

import torch
from rich.console import Console

from limner.core.seeds import seeded
from limner.hub.shipped import FIRST
from limner.pipeline import Pipeline
from limner.quickstart.shipped import draw_shipped, save_shown
from limner.show import contact_sheet, save_png
from limner.training import load_recipe
from limner.training.prepare import split
from tools.draw_docs_pictures import IMAGES

COUNT, COLUMNS = 40, 10


def main() -> None:
    """Draw and save."""
    save_shown(draw_shipped(Console(quiet=True)), IMAGES)
    learned, _ = split(load_recipe("emoji/generator", {}).data)
    chosen = torch.randperm(len(learned), generator=seeded(0, "learned pairs"))[:COUNT].tolist()
    captions = [learned.caption(place) for place in chosen]
    styles = [learned.styles[style] for style in learned.style[chosen].tolist()]
    pictures = Pipeline.from_pretrained(FIRST)(prompts=captions, styles=styles, seed=0).pictures
    save_png(contact_sheet(pictures, columns=COLUMNS, captions=captions), IMAGES / "learned.png")


if __name__ == "__main__":
    main()
