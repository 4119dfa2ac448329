"""The 3x3 convolution of the autoencoders, and the normalisation and swish before it.

Without gradients, large maps of float32 on CPUs are convolved by Winograd's minimal filtering
(`limner.layers.winograd`), and normalised block by block on the way.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers.winograd import BLOCK, add_convolved, convolved

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

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, inputs, H, W] to [B, outputs, H, W]."""
        return self.by_blocks(x) if self.goes_by_blocks(x) else super().forward(x)

    def by_blocks(
        self, x: Tensor, scale: Tensor | None = None, shift: Tensor | None = None
    ) -> Tensor:
        """Return what `limner.layers.winograd.convolved` does with these weights."""
        found: Tensor = torch.ops.limner.convolution3x3(x, self.weight, self.bias, scale, shift)
        return found

    def goes_by_blocks(self, x: Tensor) -> bool:
        """Whether a map [B, inputs, H, W] is convolved block by block: where that is faster."""
        plain = x.device.type == "cpu" and x.dtype == self.weight.dtype == torch.float32
        if not plain or torch.is_grad_enabled() or torch.is_autocast_enabled("cpu"):
            return False
        high, wide = (-(-side // block) for side, block in zip(x.shape[2:], BLOCK, strict=True))
        filled = x.shape[2] * x.shape[3] / (high * BLOCK[0] * wide * BLOCK[1])
        return filled >= LEAST_FILLED and min(self.weight.shape[:2]) >= LEAST_CHANNELS


def normalised(norm: nn.Module, x: Tensor) -> Tensor:
    """Return silu(norm(x)); without gradients the second map takes the place of the first."""
    hidden: Tensor = norm(x)
    return functional.silu(hidden, inplace=not hidden.requires_grad)


def normalised_convolution(norm: nn.GroupNorm, convolution: Convolution3x3, x: Tensor) -> Tensor:
    """Return convolution(silu(norm(x))), float [B, outputs, H, W], of a map [B, inputs, H, W].

    By blocks, what is normalised is never held whole.
    """
    if convolution.goes_by_blocks(x):
        return convolution.by_blocks(x, *_affine(norm, x))
    x = normalised(norm, x)  # lets go of a map that the caller does not hold
    plain: Tensor = convolution(x)
    return plain


def add_normalised_convolution(
    total: Tensor,
    norm: nn.GroupNorm,
    convolution: Convolution3x3,
    x: Tensor,
    overwrites: bool = False,
) -> Tensor:
    """Return total + convolution(silu(norm(x))), float [B, outputs, H, W].

    Args:
        total: float [B, outputs, H, W].
        norm: of x.
        convolution: of what is normalised.
        x: float [B, inputs, H, W].
        overwrites: the sum may take the place of `total`.
    """
    if not convolution.goes_by_blocks(x):
        hidden = normalised_convolution(norm, convolution, x)
        hidden += total
        return hidden
    total = total if overwrites else total.clone()
    weights = (convolution.weight, convolution.bias)
    torch.ops.limner.add_convolution3x3(total, x, *weights, *_affine(norm, x))
    return total


def _affine(norm: nn.GroupNorm, x: Tensor) -> tuple[Tensor, Tensor]:
    """Return scale and shift, each float [B, channels], that normalise a map."""
    # moments of channels, whose groups are as large as each other
    moments = [torch.batch_norm_update_stats(one[None], None, None, 0.0) for one in x]
    means, variances = (torch.stack(each) for each in zip(*moments, strict=True))
    means, variances = (each.unflatten(1, (norm.num_groups, -1)) for each in (means, variances))
    mean = means.mean(2, keepdim=True)
    variance = (variances + (means - mean).square()).mean(2, keepdim=True)
    scale = norm.weight / (variance + norm.eps).sqrt().expand_as(means).flatten(1)
    return scale, norm.bias - scale * mean.expand_as(means).flatten(1)


# operators, so that the compiler leaves them alone and each is counted as one convolution
_operators = torch.library.Library("limner", "FRAGMENT")
_GIVEN = "Tensor x, Tensor weight, Tensor? bias, Tensor? scale, Tensor? shift"
_operators.define(f"convolution3x3({_GIVEN}) -> Tensor")
_operators.define(f"add_convolution3x3(Tensor(a!) total, {_GIVEN}) -> ()")
_operators.impl("convolution3x3", convolved, "CPU")
_operators.impl("add_convolution3x3", add_convolved, "CPU")


@torch.library.register_fake("limner::convolution3x3")
def _empty_convolution(x: Tensor, weight: Tensor, *_: Tensor | None) -> Tensor:
    batch, _inputs, rows, columns = x.shape
    return x.new_empty(batch, rows, columns, len(weight)).permute(0, 3, 1, 2)


@torch.library.register_fake("limner::add_convolution3x3")
def _nothing_new(*_: Tensor | None) -> None:
    """`total` is written to."""
