"""A short depthwise convolution over what came before, as state-space layers begin with."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class CausalConvolution(nn.Module):
    """Every channel is a weighted sum of its last few values.

    Args:
        channels: in and out.
        kernel: K, number of values, the present one included.
    """

    def __init__(self, channels: int, kernel: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(channels, kernel))
        self.bias = nn.Parameter(torch.empty(channels))
        limit = kernel**-0.5  # as torch starts a depthwise convolution
        nn.init.uniform_(self.weight, -limit, limit)
        nn.init.uniform_(self.bias, -limit, limit)

    def forward(
        self, x: Tensor, tail: Tensor | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, Tensor]:
        """Return the sums, float [R, L, C] of the same, and the next tail.

        Args:
            tail: float [R, K - 1, C], the values before; None: zeros.
            counts: int64 [R], values of each row that the next tail follows; None: all.
        """
        before = self.weight.shape[1] - 1
        if tail is None:
            tail = x.new_zeros(len(x), before, x.shape[2])
        joined = torch.cat([tail.to(x.dtype), x], dim=1)
        summed = functional.conv1d(
            joined.transpose(1, 2), self.weight.unsqueeze(1), self.bias, groups=len(self.weight)
        )
        if counts is None:
            return summed.transpose(1, 2), joined[:, x.shape[1] :]
        last = counts.unsqueeze(1) + torch.arange(before, device=x.device)
        return summed.transpose(1, 2), joined.gather(
            1, last.unsqueeze(-1).expand(-1, -1, x.shape[2])
        )
