"""The 3x3 convolution of the autoencoders, and the normalisation and swish before it.

Once compiled, large maps on CPUs are convolved by Winograd's minimal filtering
(`limner.layers.winograd`). They are worked off in blocks that stay in the caches, and the sums
around the products are compiled: uncompiled they would cost what the products save.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers.winograd import from_tiles, to_kernels, to_normalised_tiles, to_tiles

BLOCK = (64, 64)  # rows and columns of outputs that are worked off at once
LEAST_CHANNELS = 128  # with fewer, a plain convolution is as fast
LEAST_FILLED = 0.75  # of the blocks' area, below which a plain convolution is as fast


class Convolution3x3(nn.Conv2d):
    """A 3x3 convolution that keeps the size of its maps.

    Args:
        inputs: channels.
        outputs: channels.
        bias: added to the outputs.
    """

    def __init__(self, inputs: int, outputs: int, bias: bool = True) -> None:
        super().__init__(inputs, outputs, 3, padding=1, bias=bias)
        self._sums: tuple[Callable[..., Tensor], ...] | None = None

    def compile(self, **options: Any) -> None:
        """Compile the sums around the products.

        Args:
            **options: of `torch.compile`.
        """
        options = {**options, "dynamic": False}  # all blocks have the same shape
        sums = (to_tiles, to_normalised_tiles, from_tiles)
        self._sums = tuple(torch.compile(each, **options) for each in sums)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return self.by_blocks(x) if self.goes_by_blocks(x) else super().forward(x)

    def goes_by_blocks(self, x: Tensor) -> bool:
        """Whether a map [B, inputs, H, W] is convolved block by block: where that is faster."""
        if self._sums is None or min(self.weight.shape[:2]) < LEAST_CHANNELS:
            return False
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if torch.is_grad_enabled() or not plain or torch.is_autocast_enabled("cpu"):
            return False
        high, wide = (-(-side // block) for side, block in zip(x.shape[2:], BLOCK, strict=True))
        filled = x.shape[2] * x.shape[3] / (high * BLOCK[0] * wide * BLOCK[1])
        return filled >= LEAST_FILLED

    def by_blocks(self, x: Tensor, norm: nn.GroupNorm | None = None) -> Tensor:
        """Return the convolution of x or, with a normalisation, of silu(norm(x)).

        Args:
            x: float [B, inputs, H, W].
            norm: of the inputs; its outcome is never held whole.

        Returns:
            float [B, outputs, H, W], held pixel by pixel.
        """
        kernels = to_kernels(self.weight)
        bias = kernels.new_zeros(self.out_channels) if self.bias is None else self.bias
        maps = x.permute(0, 2, 3, 1)
        found = maps.new_empty(*maps.shape[:3], self.out_channels)
        window = maps.new_zeros(BLOCK[0] + 2, BLOCK[1] + 2, self.in_channels)
        inside = window.new_empty(*window.shape[:2], 1, dtype=torch.bool)
        for read, written in zip(maps, found, strict=True):
            affine = None if norm is None else _affine(norm, read)
            for top in range(0, x.shape[2], BLOCK[0]):
                for left in range(0, x.shape[3], BLOCK[1]):
                    _fill(window, inside, read, top, left)
                    block = self._block(window, inside, affine, kernels, bias)
                    place = written[top : top + BLOCK[0], left : left + BLOCK[1]]
                    place.copy_(block[: place.shape[0], : place.shape[1]])
                    del block  # before the next one needs room
        return found.permute(0, 3, 1, 2)

    def _block(
        self,
        window: Tensor,
        inside: Tensor,
        affine: tuple[Tensor, Tensor] | None,
        kernels: Tensor,
        bias: Tensor,
    ) -> Tensor:
        """Return a block of outputs, float [rows, columns, outputs]."""
        assert self._sums is not None
        raw, normalised, after = self._sums
        tiles = raw(window) if affine is None else normalised(window, inside, *affine)
        shape = tiles.shape[:3]
        products = torch.bmm(tiles.flatten(1, 2), kernels)
        del tiles
        return after(products.view(*shape, -1), bias).view(*BLOCK, -1)


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Return silu(norm(x)); without gradients the second map takes the place of the first."""
    hidden: Tensor = norm(x)
    return functional.silu(hidden, inplace=not hidden.requires_grad)


def normalised_convolution(norm: nn.GroupNorm, convolution: Convolution3x3, x: Tensor) -> Tensor:
    """Return convolution(silu(norm(x))), float [B, outputs, H, W], of a map [B, inputs, H, W]."""
    if convolution.goes_by_blocks(x):
        return convolution.by_blocks(x, norm)
    x = normalised(norm, x)  # lets go of a map that the caller does not hold
    convolved: Tensor = convolution(x)
    return convolved


def _affine(norm: nn.GroupNorm, read: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift, each float [channels], that normalise a map [H, W, channels]."""
    # moments of channels, whose groups are as large as each other
    means, variances = torch.batch_norm_update_stats(read.permute(2, 0, 1)[None], None, None, 0.0)
    means, variances = (each.view(norm.num_groups, -1) for each in (means, variances))
    mean = means.mean(1, keepdim=True)
    variance = (variances + (means - mean).square()).mean(1, keepdim=True)
    deviation = (variance + norm.eps).sqrt()
    scale = norm.weight / deviation.expand_as(means).flatten()
    return scale, norm.bias - scale * mean.expand_as(means).flatten()


def _fill(window: Tensor, inside: Tensor, read: Tensor, top: int, left: int) -> None:
    """Copy a block of a map [H, W, channels] and its edge, zeros beyond the map."""
    first_row, first_column = max(top - 1, 0), max(left - 1, 0)
    part = read[first_row : top + BLOCK[0] + 1, first_column : left + BLOCK[1] + 1]
    rows = slice(first_row - top + 1, first_row - top + 1 + part.shape[0])
    columns = slice(first_column - left + 1, first_column - left + 1 + part.shape[1])
    if part.shape != window.shape:
        window.zero_()
    window[rows, columns] = part
    inside.zero_()
    inside[rows, columns] = True
