"""Orders that follow a fixed curve over the grid, one token a step.

Facts from CompVis/taming-transformers `taming/modules/transformer/permuter.py` (arXiv:2012.09841).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from limner.core.errors import check, unknown
from limner.core.layout import Layout
from limner.core.order import Partition


def rows_first(rows: int, columns: int) -> Tensor:
    """Row after row, each from the left."""
    return torch.arange(rows * columns)


def boustrophedon(rows: int, columns: int) -> Tensor:
    """Row after row, every second one from the right."""
    cells = rows_first(rows, columns).unflatten(0, (rows, columns)).clone()
    cells[1::2] = cells[1::2].flip(1)
    return cells.flatten()


def z_curve(rows: int, columns: int) -> Tensor:
    """Quarter after quarter (Morton's curve): upper before lower, then left before right."""
    return _interleaved(rows, columns, descending=True)


def subsampled(rows: int, columns: int) -> Tensor:
    """Every second cell of every second row first: a coarse picture, then ever finer ones."""
    check(rows == columns, "grid", f"{rows}x{columns}", "square for the curve 'subsample'")
    return _interleaved(rows, columns, descending=False)


def spiral_out(rows: int, columns: int) -> Tensor:
    """Clockwise from the middle; the first move goes up."""
    fits = rows == columns and rows % 2 == 0
    check(fits, "grid", f"{rows}x{columns}", "square with an even side for spirals")
    row, column, arm = rows // 2, columns // 2 - 1, 0
    cells = [row * columns + column]
    while len(cells) < rows * columns:
        up = 1 if arm % 2 else -1
        arm += 1
        # along a column, then along a row, with arms of 1, 1, 2, 2, 3, 3, ... cells
        for down, right in ((up, 0), (0, -up)):
            for _ in range(arm):
                row, column = row + down, column + right
                cells.append(row * columns + column)
    return torch.tensor(cells[: rows * columns])


def spiral_in(rows: int, columns: int) -> Tensor:
    """The way out of the middle, backwards."""
    return spiral_out(rows, columns).flip(0)


def shuffled_once(rows: int, columns: int) -> Tensor:
    """One random permutation, the same for all pictures."""
    permutation = np.random.RandomState(1).permutation(rows * columns)
    return torch.from_numpy(permutation).long()


CURVES: dict[str, Callable[[int, int], Tensor]] = {
    "raster": rows_first,
    "boustrophedon": boustrophedon,
    "z-curve": z_curve,
    "subsample": subsampled,
    "spiral-out": spiral_out,
    "spiral-in": spiral_in,
    "random": shuffled_once,
}
"""Name -> (rows, columns) -> the raster cell of each step, int64 [rows columns]."""


@lru_cache(maxsize=64)
def along(name: str, layout: Layout) -> Partition:
    """Return the order that draws a single grid along a curve.

    Raises:
        ConfigError: no such curve, or it does not fit the grid.
    """
    if name not in CURVES:
        raise unknown("curve", name, CURVES)
    frames, rows, columns = layout.extent
    check(frames == 1 and len(layout.segments) == 1, "layout", layout.extent, "a single grid")
    return Partition(CURVES[name](rows, columns).argsort())


def _interleaved(rows: int, columns: int, descending: bool) -> Tensor:
    """Sort cells by the bits of their rows and columns in turn, the row's bit first."""
    bits = (max(rows, columns) - 1).bit_length()
    fits = all(side & (side - 1) == 0 for side in (rows, columns))
    check(fits, "grid", f"{rows}x{columns}", "powers of two for this curve")
    cells = rows_first(rows, columns)
    row, column = cells // columns, cells % columns
    key = torch.zeros_like(cells)
    for bit in reversed(range(bits)) if descending else range(bits):
        key = (key << 2) | ((row >> bit & 1) << 1) | (column >> bit & 1)
    return key.argsort()
