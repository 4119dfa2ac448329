"""Dropout whose masks are quick to draw on CPUs."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx
from torch.nn import functional

_LEVELS = 2**16  # that a share is rounded to


class Dropout(nn.Module):
    """Leave out a random share of the numbers in training; the others are enlarged in turn.

    PyTorch draws one random number an element, on one core whatever there is; here a draw of 64
    bits serves four elements, and what is remembered for the gradient is a byte an element.

    Args:
        share: from 0 to below 1.
    """

    def __init__(self, share: float) -> None:
        super().__init__()
        self.share = share

    def forward(self, x: Tensor) -> Tensor:
        """Map float [...] to the same shape."""
        if not (self.training and self.share):
            return x
        if x.device.type != "cpu" or torch.compiler.is_compiling():
            return functional.dropout(x, self.share)
        dropped: Tensor = _Dropout.apply(x, self.share)
        return dropped


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: FunctionCtx, x: Tensor, share: float) -> Tensor:
        left_out = min(round(share * _LEVELS), _LEVELS - 1)
        count = -(-x.numel() // 4)
        drawn = torch.randint(-(2**63), 2**63 - 1, (count,)).view(torch.int16)
        kept = drawn[: x.numel()].view(x.shape) >= left_out - _LEVELS // 2
        kept = kept.view(torch.uint8)  # multiplying by bytes is quicker than by bools
        ctx.save_for_backward(kept)
        ctx.scale = _LEVELS / (_LEVELS - left_out)  # type: ignore[attr-defined]
        return (x * kept).mul_(ctx.scale)  # type: ignore[attr-defined]

    @staticmethod
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, None]:
        (kept,) = ctx.saved_tensors  # type: ignore[attr-defined]
        return gradient * kept * ctx.scale, None  # type: ignore[attr-defined]
