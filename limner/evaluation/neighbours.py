"""The training picture nearest to each drawn one: shows whether pictures are copied."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from limner.core.errors import check
from limner.data import PictureSet

CHUNK = 4096  # training pictures compared at once


@dataclass(frozen=True, eq=False)
class Neighbours:
    """The nearest training picture of each of B pictures.

    Args:
        index: int64 [B], into the set.
        distance: float [B], root mean square difference of pixels in [-1, 1], so from 0 to 2.
    """

    index: Tensor
    distance: Tensor


@torch.no_grad()
def nearest_pictures(pictures: Tensor, among: PictureSet, side: int = 16) -> Neighbours:
    """Find the nearest pictures of a set, by pixels of smaller copies.

    Args:
        pictures: float [B, 3, H, W] in [-1, 1].
        among: where to look; its pictures may have another size.
        side: height and width of the copies that are compared: a shift by a pixel or two then
            does not hide that a picture is the same.

    Raises:
        ConfigError: the set is empty, or a side that is not accepted.
    """
    check(len(among) > 0, "among", len(among), "a set of at least one picture")
    check(side >= 1, "side", side, "at least 1")
    asked = _small(pictures, side)
    best = torch.full((len(asked),), torch.inf)
    index = torch.zeros(len(asked), dtype=torch.int64)
    for chunk in torch.arange(len(among)).split(CHUNK):
        distances = torch.cdist(asked, _small(among.to_float(chunk), side))
        nearest = distances.min(dim=1)
        closer = nearest.values < best
        best = torch.where(closer, nearest.values, best)
        index = torch.where(closer, chunk[nearest.indices], index)
    return Neighbours(index, best / asked.shape[1] ** 0.5)


def _small(pictures: Tensor, side: int) -> Tensor:
    """Return averages over side x side cells as vectors, float [B, 3 side^2]."""
    return functional.adaptive_avg_pool2d(pictures.float().cpu(), side).flatten(1)
