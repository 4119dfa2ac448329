"""Draw the documentation's animations: every order draws the same packaged picture.

    python -m tools.draw_orders

fits two small tokenizers on packaged emoji, encodes one of them, and writes to docs/images/orders
NAME.gif for every order, tokens.png (a picture, its tokens and what they decode to) and orders.json
(how many tokens and steps each has). What is not drawn yet is grey; what a step draws is framed.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path

import torch
from PIL import Image, ImageDraw
from torch import Tensor

from limner.core.noise import SeededNoise
from limner.core.order import Partition, Step
from limner.core.tokens import Tokens
from limner.data import load_packaged
from limner.orders import random_partition, raster, scales
from limner.orders.curves import CURVES, along
from limner.orders.random import shuffled
from limner.show.animation import save_animation
from limner.show.grid import contact_sheet
from limner.show.images import to_images
from limner.tokenizers.patches import (
    PatchKMeans,
    PatchKMeansConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
    PatchTokenizer,
)

ORDERS = Path(__file__).parent.parent / "docs" / "images" / "orders"
SIZE = 64  # of the picture, in pixels: 16 x 16 tokens of 4 x 4 pixels
ZOOM = 2
COLOURS = 128  # of the whole picture: few colours keep the files small
FITTED = 1024  # pictures that the tokenizers are fitted to
FRAMES = 43
GREY = (222, 222, 222)
LINE = (205, 205, 205)
FRAME = (213, 0, 89)


def main() -> None:
    """Read the command line, fit, draw and save."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--picture", default="parrot", help="caption of a packaged picture")
    parser.add_argument("--random-steps", type=int, default=16, help="of the masked order")
    asked = parser.parse_args()
    pictures = load_packaged("twemoji", SIZE)
    picture = pictures.to_float()[pictures.captions.index(asked.picture)].unsqueeze(0)
    learned = pictures.to_float()
    one_grid = PatchKMeans(PatchKMeansConfig(width=48, codebook_size=2048))
    pyramid = PatchMultiScale(
        PatchMultiScaleConfig(width=32, codebook_size=2048, scales=(1, 2, 3, 4, 6, 8, 11, 16))
    )
    for tokenizer in (one_grid, pyramid):
        rng = torch.Generator().manual_seed(0)
        tokenizer.fit(learned[torch.randperm(len(learned), generator=rng)[:FITTED]], rng)
    ORDERS.mkdir(parents=True, exist_ok=True)
    grid, maps = one_grid.encode(picture), pyramid.encode(picture)
    sheet = contact_sheet([_large(picture), _codes(grid), _large(one_grid.decode(grid))], 3)
    sheet.save(ORDERS / "tokens.png", optimize=True)
    counted = {}
    for name, order in orders_of_a_grid(grid, asked.random_steps).items():
        save_animation(list(_film(one_grid, grid, order)), ORDERS / f"{name}.gif", 6.0, 2.0)
        counted[name] = {"tokens": len(order.step), "steps": len(order)}
    order = scales(maps.layout)
    save_animation(list(_film(pyramid, maps, order)), ORDERS / "next-scale.gif", 4.0, 2.0)
    counted["next-scale"] = {"tokens": len(order.step), "steps": len(order)}
    said = {"command": "python -m tools.draw_orders", "picture": asked.picture, "orders": counted}
    (ORDERS / "orders.json").write_text(json.dumps(said, indent=1) + "\n", encoding="utf-8")


def orders_of_a_grid(tokens: Tokens, steps: int) -> dict[str, Partition]:
    """Return every order of a single grid by name: the curves, and a random one in few steps."""
    layout = tokens.layout
    found = {name: raster(layout) if name == "raster" else along(name, layout) for name in CURVES}
    permutation = shuffled(torch.arange(len(layout)), SeededNoise(0))
    return found | {"masked": random_partition(permutation, steps)}


def _film(tokenizer: PatchTokenizer, tokens: Tokens, order: Partition) -> Iterator[Image.Image]:
    """Yield what is drawn after some of the steps, and the whole picture at the end."""
    every = max(1, round(len(order) / FRAMES))
    whole = _large(tokenizer.decode(tokens)).quantize(COLOURS)
    for step in order.steps:
        if (step.index + 1) % every == 0:
            seen = tokens.clone()
            seen.known = (order.step <= step.index).unsqueeze(0)
            now = order.steps[step.index + 1 - every : step.index + 1]
            image = _large(tokenizer.preview(seen)).quantize(
                palette=whole, dither=Image.Dither.NONE
            )
            yield _marked(image.convert("RGB"), seen, now)
    yield whole.convert("RGB")


def _marked(image: Image.Image, seen: Tokens, now: tuple[Step, ...]) -> Image.Image:
    """Return the picture so far: grey where nothing is drawn, frames around what is new."""
    pen = ImageDraw.Draw(image)
    if len(seen.layout.segments) == 1:  # a scale covers the whole picture
        for place in (~seen.known[0]).nonzero().flatten().tolist():
            pen.rectangle(_box(seen, place), fill=GREY, outline=LINE)
    for place in torch.cat([step.draw for step in now]).tolist():
        pen.rectangle(_box(seen, place), outline=FRAME)
    return image


def _box(tokens: Tokens, place: int) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a token's part of the large picture."""
    rows, columns = tokens.layout.segments[tokens.layout.segment_at(place)].size[1:]
    row, column = tokens.layout.coordinates()[place, 2:].tolist()
    side = SIZE * ZOOM
    return (
        column * side // columns,
        row * side // rows,
        (column + 1) * side // columns - 1,
        (row + 1) * side // rows - 1,
    )


def _codes(tokens: Tokens) -> Image.Image:
    """Return the codes of a grid as squares; a code has one colour."""
    assert tokens.ids is not None
    image = Image.new("RGB", (SIZE * ZOOM, SIZE * ZOOM))
    pen = ImageDraw.Draw(image)
    ranks = {code: rank for rank, code in enumerate(tokens.ids.unique().tolist())}
    for place, code in enumerate(tokens.ids[0, :, 0].tolist()):
        hue = 360 * ranks[code] // len(ranks)
        pen.rectangle(_box(tokens, place), fill=f"hsl({hue}, 55%, 60%)", outline=LINE)
    return image


def _large(picture: Tensor) -> Image.Image:
    return to_images(picture)[0].resize((SIZE * ZOOM,) * 2, Image.Resampling.NEAREST)


if __name__ == "__main__":
    main()
