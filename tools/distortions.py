"""Ways to spoil a picture, and ways to change its light by just as large a squared error.

Pictures are float32 [B, 3, H, W] in [0, 1]; a strength is float32 [B], one a picture.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

REACH = 6
"""Pixels to each side that a blurred pixel is made of."""


def blur(pictures: Tensor, deviation: Tensor) -> Tensor:
    """Blur by a Gaussian of some pixels' standard deviation."""
    batch, channels, height, width = pictures.shape
    offsets = torch.arange(-REACH, REACH + 1)
    kernels = torch.exp(-offsets.square() / (2 * deviation[:, None].square()))
    kernels = (kernels / kernels.sum(1, keepdim=True)).repeat_interleave(channels, 0)[:, None]
    x = functional.pad(pictures, (REACH,) * 4, mode="replicate")
    x = x.reshape(1, batch * channels, height + 2 * REACH, width + 2 * REACH)
    x = functional.conv2d(x, kernels[:, :, :, None], groups=batch * channels)
    x = functional.conv2d(x, kernels[:, :, None, :], groups=batch * channels)
    return x.reshape(pictures.shape)


def noise(pictures: Tensor, deviation: Tensor, rng: torch.Generator, grain: int = 1) -> Tensor:
    """Add Gaussian noise in grains of some pixels' width."""
    batch, channels, height, width = pictures.shape
    added = torch.randn(batch, channels, -(-height // grain), -(-width // grain), generator=rng)
    added = functional.interpolate(added, size=(height, width))
    return (pictures + added * deviation.reshape(-1, 1, 1, 1)).clamp(0, 1)


def blocks(pictures: Tensor, step: Tensor) -> Tensor:
    """Round the cosine transform of 8x8 blocks, high frequencies more coarsely, as JPEG does."""
    height, width = pictures.shape[2:]
    k = torch.arange(8.0)
    transform = torch.cos((2 * k + 1) * k[:, None] * math.pi / 16) / 2
    transform[0] /= math.sqrt(2)
    x = functional.pad(pictures, (0, -width % 8, 0, -height % 8), mode="replicate")
    x = x.unflatten(3, (-1, 8)).unflatten(2, (-1, 8)).transpose(3, 4)
    steps = step.reshape(-1, 1, 1, 1, 1, 1) * (1 + (k + k[:, None]) / 2)
    rounded = (transform @ x @ transform.T / steps).round() * steps
    x = (transform.T @ rounded @ transform).transpose(3, 4).flatten(4, 5).flatten(2, 3)
    return x[:, :, :height, :width].clamp(0, 1)


DISTORTIONS = ("blur", "noise", "coarse noise", "blocks")


def distort(pictures: Tensor, kinds: Tensor, strength: Tensor, rng: torch.Generator) -> Tensor:
    """Spoil every picture.

    Args:
        kinds: int64 [B], indices into `DISTORTIONS`.
        strength: 0: hardly visible; 1: strong.
    """
    spoiled = torch.empty_like(pictures)
    for kind, name in enumerate(DISTORTIONS):
        chosen = (kinds == kind).nonzero().flatten()
        if not len(chosen):
            continue
        some, much = pictures[chosen], strength[chosen]
        if name == "blur":
            spoiled[chosen] = blur(some, 0.3 + 2.2 * much)
        elif name == "blocks":
            spoiled[chosen] = blocks(some, 0.05 + 0.5 * much)
        else:
            grain = 1 if name == "noise" else 2
            spoiled[chosen] = noise(some, 0.02 + 0.2 * much, rng, grain)
    return spoiled


LIGHTS = {"darker": 0.15, "brighter": 0.15, "less contrast": 0.5}
"""Ways to change the light, and the largest amount that is a small change."""


def relight(pictures: Tensor, kinds: Tensor, amount: Tensor) -> Tensor:
    """Change the light of every picture; kinds: int64 [B], indices into `LIGHTS`."""
    amount, kinds = (x.reshape(-1, 1, 1, 1) for x in (amount, kinds))
    mean = pictures.mean(dim=(1, 2, 3), keepdim=True)
    flatter = mean + (1 - amount) * (pictures - mean)
    changed = torch.where(kinds == 0, pictures - amount, pictures + amount)
    return torch.where(kinds == 2, flatter, changed).clamp(0, 1)


def relight_as_far(pictures: Tensor, spoiled: Tensor, kinds: Tensor) -> tuple[Tensor, Tensor]:
    """Change the light a little, by the squared error of the spoiled pictures.

    Returns:
        The changed pictures, and bool [B]: whether the error is the same within a tenth. For some
        no small change is large enough, and white does not get brighter.
    """
    wanted = _error(pictures, spoiled)
    least, most = torch.zeros_like(wanted), torch.tensor([*LIGHTS.values()])[kinds]
    for _ in range(12):
        middle = (least + most) / 2
        short = _error(pictures, relight(pictures, kinds, middle)) < wanted
        least, most = torch.where(short, middle, least), torch.where(short, most, middle)
    changed = relight(pictures, kinds, (least + most) / 2)
    return changed, (_error(pictures, changed) - wanted).abs() < 0.1 * wanted


def _error(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).square().mean(dim=(1, 2, 3))
