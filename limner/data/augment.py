"""Augmentations of a batch, drawn from a generator that the caller holds."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from limner.core.errors import check


@dataclass(frozen=True)
class Augment:
    """Random shift, then random horizontal flip, each picture for itself.

    Attributes:
        shift: largest move in pixels, along both axes; 0: none.
        flip: probability of a flip; 0: none.

    Raises:
        ConfigError: a value that is not accepted.
    """

    shift: int = 0
    flip: float = 0.0

    def __post_init__(self) -> None:
        check(self.shift >= 0, "shift", self.shift, "at least 0")
        check(0 <= self.flip <= 1, "flip", self.flip, "between 0 and 1")

    def __call__(self, pictures: Tensor, rng: torch.Generator) -> Tensor:
        """Augment pictures [B, C, H, W] of any dtype; the input is left as it is.

        All frames of a clip [B, T, C, H, W] are moved and mirrored alike.
        """
        channels = pictures.shape[1:-2]
        pictures = pictures.flatten(1, -3)
        if self.shift:
            pictures = random_shift(pictures, self.shift, rng)
        if self.flip:
            pictures = random_flip(pictures, self.flip, rng)
        return pictures.unflatten(1, channels)


def random_shift(pictures: Tensor, largest: int, rng: torch.Generator) -> Tensor:
    """Move each of [B, C, H, W] by up to `largest` pixels; the edge is repeated into the gap."""
    batch, _, height, width = pictures.shape
    device = pictures.device
    moves = torch.randint(-largest, largest + 1, (2, batch, 1), generator=rng, device=rng.device)
    down, right = moves.to(device)
    rows = (torch.arange(height, device=device) - down).clamp(0, height - 1)
    columns = (torch.arange(width, device=device) - right).clamp(0, width - 1)
    which = torch.arange(batch, device=device)
    # Indices around a slice put the channels last.
    moved = pictures[which[:, None, None], :, rows[:, :, None], columns[:, None, :]]
    return moved.movedim(-1, 1)


def random_flip(pictures: Tensor, probability: float, rng: torch.Generator) -> Tensor:
    """Mirror each of [B, C, H, W] left to right with the given probability."""
    draws = torch.rand(len(pictures), generator=rng, device=rng.device).to(pictures.device)
    return torch.where((draws < probability)[:, None, None, None], pictures.flip(-1), pictures)
