"""Draw the documentation's picture of edits by the packaged model.

    python -m tools.draw_docs_edits

writes docs/images/edits.png. A row is a real picture that training held out.
Columns are the picture, the mask, three in-paintings, the hidden part under another
caption, and the picture drawn anew from its coarse scales.
"""

from __future__ import annotations

import torch
from torch import Tensor

from limner.data.source import collect
from limner.hub.shipped import FIRST
from limner.pipeline import Pipeline, tokens_under
from limner.show import contact_sheet, save_png
from limner.training import load_recipe
from limner.training.prepare import split
from tools.draw_docs_pictures import IMAGES

SHOWN = (  # style and caption of a held-out picture; what is put under its mask instead
    ("twemoji", "strawberry", "carrot"),
    ("noto", "fox face", "wolf face"),
    ("fluent", "frog face", "panda face"),
    ("twemoji", "owl", "penguin"),
    ("noto", "guitar", "violin"),
)
VARIANTS, KEPT = 3, 4  # in-paintings of each; coarse scales that are kept
GREY = 0.6


def hidden(side: int) -> Tensor:
    """Return the mask, bool [side, side]: the right half."""
    mask = torch.zeros(side, side, dtype=torch.bool)
    mask[:, side // 2 :] = True
    return mask


def row(pipeline: Pipeline, picture: Tensor, caption: str, style: str, other: str) -> Tensor:
    """Return a row of pictures, float [n, 3, H, W]."""
    mask = hidden(picture.shape[-1])
    asked = {"styles": [style] * VARIANTS, "seed": 0}
    edited = pipeline.edit(picture, mask, prompts=[caption] * VARIANTS, **asked)
    own = pipeline.tokenizer.encode(picture[None])
    held = ~tokens_under(mask, own.layout)
    assert (edited.tokens.ids[:, held] == own.ids[:, held]).all()
    replaced = pipeline.edit(picture, mask, prompts=[other], styles=[style], seed=0)
    refined = pipeline.refine(picture, KEPT, prompts=[caption], styles=[style], seed=0)
    covered = picture.masked_fill(mask, GREY)
    parts = [picture[None], covered[None], edited.pictures, replaced.pictures, refined.pictures]
    return torch.cat(parts)


def main() -> None:
    """Draw and save."""
    pipeline = Pipeline.from_pretrained(FIRST)
    data = load_recipe("emoji/generator", {}).data
    _, source = split(data)
    held_out = collect(source, data.size)
    styles = [source.styles[style] for style in source.style.tolist()]
    places = {told: place for place, told in enumerate(zip(styles, held_out.captions, strict=True))}
    rows = []
    for style, caption, other in SHOWN:
        real = held_out.subset(torch.tensor([places[style, caption]])).to_float()[0]
        rows.append(row(pipeline, real, caption, style, other))
    save_png(contact_sheet(torch.cat(rows), columns=len(rows[0]), zoom=2), IMAGES / "edits.png")


if __name__ == "__main__":
    main()
