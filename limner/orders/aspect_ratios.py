"""Infinity's templates: a list of scales for every aspect ratio; pictures take the first of one.

A resolution is a number of scales: 7 of them make 256 x 256 px, 10 make 512, 12 make 768 and all 13
make 1024 (16 px a token), and about as many pixels at other ratios.

Source: infinity/utils/dynamic_resolution.py of StargazerX0/ScaleKV, a copy of that of
FoundationVision/Infinity (arXiv:2412.04431).
"""

from __future__ import annotations

from functools import lru_cache

from limner.core.errors import ConfigError

Scales = tuple[tuple[int, int], ...]
"""Rows and columns of every scale, coarse to fine."""

RESOLUTIONS = (7, 10, 12, 13)
"""Scales of the published resolutions."""

_UPRIGHT = (
    "1x1 2x2 4x4 6x6 8x8 12x12 16x16 20x20 24x24 32x32 40x40 48x48 64x64",
    "1x1 2x2 3x3 5x4 10x8 15x12 20x16 25x20 30x24 35x28 45x36 55x44 70x56",
    "1x1 2x2 4x3 8x6 12x9 16x12 20x15 24x18 28x21 36x27 48x36 60x45 72x54",
    "1x1 2x2 3x2 6x4 9x6 15x10 21x14 27x18 33x22 39x26 48x32 63x42 78x52",
    "1x1 2x2 3x3 7x4 11x6 14x8 21x12 28x16 35x20 42x24 56x32 70x40 84x48",
    "1x1 2x2 4x2 6x3 10x5 16x8 22x11 30x15 38x19 46x23 60x30 74x37 90x45",
    "1x1 2x2 5x2 10x4 15x6 20x8 25x10 30x12 40x16 50x20 65x26 80x32 100x40",
    "1x1 2x2 6x2 9x3 15x5 21x7 27x9 36x12 45x15 54x18 72x24 90x30 111x37",
)
"""Square pictures, then ever taller ones, rows by columns; wide ones are these turned."""


@lru_cache(maxsize=1)
def templates() -> tuple[Scales, ...]:
    """Return the lists of all ratios, each in full."""
    upright = [tuple(_size(text) for text in line.split()) for line in _UPRIGHT]
    turned = [tuple((columns, rows) for rows, columns in scales) for scales in upright[1:]]
    return (*upright, *turned)


def template_scales(rows: int, columns: int) -> Scales:
    """Return the scales of a picture whose finest grid is given.

    Raises:
        ConfigError: no template has such a grid; names the nearest that one has.
    """
    for scales in templates():
        if (rows, columns) in scales:
            return scales[: scales.index((rows, columns)) + 1]
    near = nearest_grid(rows, columns)
    raise ConfigError(
        f"grid={rows}x{columns} is not accepted: Infinity draws the grids of its templates, "
        f"of which {near[0]}x{near[1]} is the nearest"
    )


def nearest_grid(rows: int, columns: int) -> tuple[int, int]:
    """Return the grid of a published resolution nearest to one: first its ratio, then its size."""
    scales = min(templates(), key=lambda scales: abs(_ratio(scales) - rows / columns))
    grids = [scales[count - 1] for count in RESOLUTIONS]
    return min(grids, key=lambda grid: abs(grid[0] * grid[1] - rows * columns))


def reference_grid(sizes: Scales) -> tuple[int, int]:
    """Return the finest grid of the template that begins with these scales; else their own."""
    fits = (scales[-1] for scales in templates() if scales[: len(sizes)] == sizes)
    return next(fits, sizes[-1])


def _ratio(scales: Scales) -> float:
    rows, columns = scales[-1]
    return rows / columns


def _size(text: str) -> tuple[int, int]:
    rows, columns = text.split("x")
    return int(rows), int(columns)
