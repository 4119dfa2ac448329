"""Packaged drawings of several artists, laid in many ways over many backgrounds.

Pictures are float32 [B, 3, H, W] in [0, 1].
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.data import load_packaged
from limner.data.split import held_out_mask

PACKS = ("twemoji", "noto", "fluent")
SIZE = 64
HELD_OUT = 0.1


class Drawings:
    """Every emoji that is not held out, in each style that it was drawn in.

    Over black and over white a drawing tells its colours and its transparency exactly: over any
    other background it is black + (white - black) * background.

    Attributes:
        places: int64 [E, styles], where an emoji's pictures are; -1 where a style lacks it.
        labels: int64 [E], indices into `classes`.
    """

    def __init__(self) -> None:
        black = [load_packaged(name, SIZE, background=(0, 0, 0)) for name in PACKS]
        white = [load_packaged(name, SIZE) for name in PACKS]
        self._layers = torch.cat(
            [torch.cat([b.pixels, 255 - w.pixels], dim=1) for b, w in zip(black, white)]
        )  # over black, and what is missing to white: both vanish where nothing is drawn
        self.classes = white[0].classes
        keys = [key for pictures in white for key in pictures.keys]
        names = [pictures.classes[k] for pictures in white for k in pictures.labels.tolist()]
        styles = [style for style, pictures in enumerate(white) for _ in pictures.keys]
        kept = (~held_out_mask(keys, HELD_OUT)).nonzero().flatten().tolist()
        number = {key: n for n, key in enumerate(dict.fromkeys(keys[i] for i in kept))}
        self.places = torch.full((len(number), len(PACKS)), -1)
        self.labels = torch.zeros(len(number), dtype=torch.int64)
        for i in kept:
            self.places[number[keys[i]], styles[i]] = i
            self.labels[number[keys[i]]] = self.classes.index(names[i])

    def __len__(self) -> int:
        return len(self.places)

    def two_styles(self, emoji: Tensor, rng: torch.Generator) -> Tensor:
        """Places of two pictures of each emoji, int64 [2, B]: of two styles where there are two."""
        places = self.places[emoji]
        scores = torch.rand(places.shape, generator=rng) - 2 * (places < 0)
        first, second = places.gather(1, scores.topk(2).indices).T
        return torch.stack([first, torch.where(second < 0, first, second)])

    def compose(self, places: Tensor, size: int, rng: torch.Generator) -> Tensor:
        """Lay drawings, turned, mirrored, scaled and moved, over backgrounds; recolour the whole.

        Args:
            places: int64 [B].
            size: H and W.
        """
        count = len(places)
        layers = functional.interpolate(
            self._layers[places] / 255, size=(size, size), mode="bilinear", antialias=True
        )
        scale = torch.exp(_uniform(rng, (count,), -0.45, 0.25))
        turn = 0.2 * torch.randn(count, generator=rng)
        mirror = (torch.rand(count, generator=rng) < 0.5) * 2.0 - 1
        right, down = scale * turn.cos(), scale * turn.sin()
        rows = [torch.stack([right * mirror, -down], 1), torch.stack([down * mirror, right], 1)]
        move = _uniform(rng, (count, 2, 1), -0.2, 0.2)
        maps = torch.cat([torch.stack(rows, 1), move], dim=2)
        grid = functional.affine_grid(maps, list(layers.shape), align_corners=False)
        black, missing = functional.grid_sample(layers, grid, align_corners=False).chunk(2, dim=1)
        background = backgrounds(count, size, rng)
        return recolour(black + (1 - missing - black) * background, rng)


def backgrounds(count: int, size: int, rng: torch.Generator) -> Tensor:
    """White, one colour, or clouds, a picture each."""
    kind = torch.rand(count, 1, 1, 1, generator=rng)
    plain = torch.where(kind < 0.2, 1.0, torch.rand(count, 3, 1, 1, generator=rng))
    return torch.where(kind < 0.5, plain, clouds(count, size, rng))


def clouds(count: int, size: int, rng: torch.Generator) -> Tensor:
    """Coloured noise of many scales; like photographs it has less of the finer ones."""
    falling = _uniform(rng, (count, 1, 1, 1), 0.3, 0.9)
    total, weight, cells = torch.zeros(count, 3, size, size), torch.ones_like(falling), 2
    while cells <= size:
        coloured = torch.randn(count, 3, cells, cells, generator=rng)
        grey = torch.randn(count, 1, cells, cells, generator=rng)
        layer = functional.interpolate(0.6 * coloured + grey, size=(size, size), mode="bilinear")
        total, weight, cells = total + weight * layer, weight * falling, 2 * cells
    spread = total.std(dim=(1, 2, 3), keepdim=True)
    total = (total - total.mean(dim=(1, 2, 3), keepdim=True)) / spread
    contrast = _uniform(rng, (count, 1, 1, 1), 0.1, 0.3)
    return (total * contrast + _uniform(rng, (count, 3, 1, 1), 0.2, 0.8)).clamp(0, 1)


def recolour(pictures: Tensor, rng: torch.Generator) -> Tensor:
    """Change brightness, tint, contrast and saturation, each picture for itself."""
    count = len(pictures)
    tint = torch.randn(count, 3, 1, 1, generator=rng)
    brightness, contrast = torch.randn(2, count, 1, 1, 1, generator=rng)
    x = pictures + 0.08 * brightness + 0.04 * tint
    mean = x.mean(dim=(1, 2, 3), keepdim=True)
    x = mean + (x - mean) * torch.exp(0.25 * contrast)
    grey = x.mean(dim=1, keepdim=True)
    return (grey + (x - grey) * _uniform(rng, (count, 1, 1, 1), 0.5, 1.3)).clamp(0, 1)


def _uniform(rng: torch.Generator, shape: tuple[int, ...], least: float, most: float) -> Tensor:
    return least + (most - least) * torch.rand(shape, generator=rng)
