"""Pictures in memory, and a feature space that needs no weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.data import load_packaged
from limner.data.images import to_float
from limner.evaluation.features import FeatureSpace, Vectors
from limner.evaluation.pictures import Pictures

SIDE = 16


class Held(Pictures):
    """Pictures in memory, uint8 [N, 3, H, W]."""

    def __init__(self, levels: Tensor, name: str = "held") -> None:
        super().__init__(name, len(levels), (levels.shape[-2], levels.shape[-1]))
        self.levels = levels

    def batches(self, batch: int = 64) -> Iterator[Tensor]:
        return iter(self.levels.split(batch))


def look(levels: Tensor) -> Vectors:
    """Features without a network: colours, their coarse layout, and how much neighbours differ."""
    pictures = to_float(levels)
    coarse = functional.adaptive_avg_pool2d(pictures, 2).flatten(1)
    across = (pictures[..., 1:] - pictures[..., :-1]).abs().mean(dim=(2, 3))
    down = (pictures[..., 1:, :] - pictures[..., :-1, :]).abs().mean(dim=(2, 3))
    return Vectors(torch.cat([coarse, across, down], dim=1))


@pytest.fixture
def space() -> FeatureSpace:
    """18 features a picture."""
    return FeatureSpace("simple", "simple features", look, "of-simple")


@pytest.fixture(scope="session")
def levels() -> Tensor:
    """Real pictures, uint8 [N, 3, 16, 16], in random order."""
    pixels = load_packaged(size=SIDE).pixels
    return pixels[torch.randperm(len(pixels), generator=torch.Generator().manual_seed(0))]


@pytest.fixture
def held(levels: Tensor) -> Callable[..., Held]:
    """A function that holds some real pictures."""
    return lambda begin, end, name="held": Held(levels[begin:end], name)
