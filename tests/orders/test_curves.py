"""Fixed curves over the grid."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.orders.curves import CURVES, along


def cells(name: str, side: int) -> Tensor:
    """Return row and column of each step, int64 [n, 2]."""
    path = CURVES[name](side, side)
    return torch.stack([path // side, path % side], dim=1)


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("side", [2, 4, 8])
def test_every_cell_is_drawn_once(name: str, side: int) -> None:
    order = along(name, grid(side, side))
    assert len(order) == side**2 and all(len(step.draw) == 1 for step in order.steps)
    path = torch.cat([step.draw for step in order.steps])
    assert torch.equal(path, CURVES[name](side, side))
    assert torch.equal(order.step[path], torch.arange(side**2))


@pytest.mark.parametrize("name", ["spiral-out", "spiral-in", "boustrophedon"])
def test_these_curves_never_leap(name: str) -> None:
    moves = cells(name, 6).diff(dim=0).abs().sum(dim=1)
    assert (moves == 1).all()


def test_spirals_grow_around_the_middle() -> None:
    middle = cells("spiral-out", 8)
    assert middle[:4].tolist() == [[4, 3], [3, 3], [3, 4], [4, 4]]
    reach = (middle - torch.tensor(3.5)).abs().amax(dim=1)
    assert (reach.diff() >= 0).float().mean() > 0.8
    for count in (4, 16, 36):
        square = middle[:count].float()
        assert (square.amax(dim=0) - square.amin(dim=0) + 1 == count**0.5).all()


def test_z_finishes_quarters_and_subsampling_starts_with_a_coarse_grid() -> None:
    assert (cells("z-curve", 8)[:16] < 4).all()
    coarse = cells("subsample", 8)[:16]
    assert (coarse % 2 == 0).all()


@pytest.mark.parametrize(
    ("name", "size"), [("spiral-out", (3, 3)), ("spiral-in", (4, 6)), ("z-curve", (6, 6))]
)
def test_grids_that_do_not_fit_are_named(name: str, size: tuple[int, int]) -> None:
    with pytest.raises(ConfigError, match=f"{size[0]}x{size[1]}"):
        along(name, grid(*size))


def test_unknown_curves_are_named() -> None:
    with pytest.raises(ConfigError, match="did you mean 'z-curve'"):
        along("zcurve", grid(4, 4))
