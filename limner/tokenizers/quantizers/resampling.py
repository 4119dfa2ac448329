"""How maps of latents become coarser and finer between the scales of a pyramid.

"area" averages over areas and enlarges bicubically (VAR). "fourier" keeps exactly the frequencies
that a grid can carry, so a scale is a band of frequencies (NFIG): coarser and finer are the same
matrices along rows and columns as `scipy.signal.resample` computes by FFT. Sample 0 stays sample 0,
and maps are taken as periodic.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor
from torch.nn import functional

Size = tuple[int, int]


class Resampling(Protocol):
    """Maps [B, D, H, W] to other sizes."""

    def down(self, maps: Tensor, size: Size) -> Tensor:
        """Return maps of a smaller size, or of the same."""
        ...

    def up(self, maps: Tensor, size: Size) -> Tensor:
        """Return maps of a larger size, or of the same."""
        ...

    def band(self, maps: Tensor, size: Size) -> Tensor:
        """Return of maps what a grid of a smaller size may add to them, at full size."""
        ...


class AreaResampling:
    """Averages over areas, and bicubic enlargement; a scale may add anything."""

    def down(self, maps: Tensor, size: Size) -> Tensor:
        """See `Resampling.down`."""
        return functional.adaptive_avg_pool2d(maps, size)

    def up(self, maps: Tensor, size: Size) -> Tensor:
        """See `Resampling.up`."""
        if maps.shape[-2:] == size:
            return maps
        return functional.interpolate(maps, size=size, mode="bicubic")

    def band(self, maps: Tensor, size: Size) -> Tensor:
        """Return the maps as they are."""
        return maps


class FourierResampling:
    """Resampling that keeps the frequencies up to half the size, and nothing else."""

    def down(self, maps: Tensor, size: Size) -> Tensor:
        """See `Resampling.down`."""
        return _apply(maps, [fourier_down(old, new) for old, new in _pairs(maps, size)])

    def up(self, maps: Tensor, size: Size) -> Tensor:
        """See `Resampling.up`."""
        return _apply(maps, [fourier_up(new, old) for old, new in _pairs(maps, size)])

    def band(self, maps: Tensor, size: Size) -> Tensor:
        """Return the low frequencies of maps, those that a grid of this size carries."""
        return self.up(self.down(maps, size), (maps.shape[-2], maps.shape[-1]))


RESAMPLINGS: dict[str, Resampling] = {"area": AreaResampling(), "fourier": FourierResampling()}


def _pairs(maps: Tensor, size: Size) -> list[tuple[int, int]]:
    return [(maps.shape[-2], size[0]), (maps.shape[-1], size[1])]


def _apply(maps: Tensor, matrices: list[Tensor]) -> Tensor:
    # in full precision: what generators are taught is what they read when they draw
    with torch.autocast(maps.device.type, enabled=False):
        rows, columns = (matrix.to(maps.device, maps.dtype) for matrix in matrices)
        return rows @ maps @ columns.T


@lru_cache(maxsize=256)
def fourier_down(length: int, size: int) -> Tensor:
    """Return the matrix from `length` samples to fewer, float64 [size, length].

    At an even size the frequencies +size / 2 and -size / 2 fall together and are added.
    """
    if size == length:
        return torch.eye(length, dtype=torch.float64)
    spectrum = torch.fft.fft(torch.eye(length, dtype=torch.complex128), dim=0)
    kept = torch.zeros(size, length, dtype=torch.complex128)
    for frequency in _inside(size):
        kept[frequency % size] = spectrum[frequency % length]
    if size % 2 == 0:
        kept[size // 2] = spectrum[size // 2] + spectrum[-(size // 2)]
    return torch.fft.ifft(kept, dim=0).real * size / length


@lru_cache(maxsize=256)
def fourier_up(length: int, size: int) -> Tensor:
    """Return the matrix from `size` samples to `length`, which are more, float64 [length, size].

    At an even size the frequency size / 2 is halved between +size / 2 and -size / 2.
    """
    if size == length:
        return torch.eye(length, dtype=torch.float64)
    spectrum = torch.fft.fft(torch.eye(size, dtype=torch.complex128), dim=0)
    spread = torch.zeros(length, size, dtype=torch.complex128)
    for frequency in _inside(size):
        spread[frequency % length] = spectrum[frequency % size]
    if size % 2 == 0:
        spread[size // 2] += spectrum[size // 2] / 2
        spread[-(size // 2)] += spectrum[size // 2] / 2
    return torch.fft.ifft(spread, dim=0).real * length / size


def _inside(size: int) -> range:
    """Return the frequencies below half a size."""
    return range(-((size - 1) // 2), (size - 1) // 2 + 1)
