"""Norms that are computed in float32 whatever the weights' dtype is."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class RMSNorm(nn.Module):
    """x / rms(x) * weight (Zhang and Sennrich, arXiv:1910.07467), cast back before the weight.

    Args:
        width: of the last dimension.
        eps: added to the mean square.
        affine: with a weight for every channel.
    """

    def __init__(self, width: int, eps: float = 1e-5, affine: bool = True) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(width)) if affine else None

    def forward(self, x: Tensor) -> Tensor:
        """Normalise float [..., width]."""
        wide = x if x.dtype == torch.float64 else x.float()
        wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + self.eps)
        normed = wide.to(x.dtype)
        return normed if self.weight is None else normed * self.weight


class GatedRMSNorm(RMSNorm):
    """RMS norm of x * silu(gate), by groups of successive channels.

    Args:
        width: of the last dimension.
        eps: added to the mean square.
        groups: each has its own mean square.

    Source: `RMSNorm` in mamba_ssm/ops/triton/layernorm_gated.py of state-spaces/mamba.
    """

    def __init__(self, width: int, eps: float = 1e-5, groups: int = 1) -> None:
        super().__init__(width, eps)
        self.groups = groups

    def forward(self, x: Tensor, gate: Tensor) -> Tensor:  # type: ignore[override]
        """Normalise float [..., width] under a gate of the same shape."""
        wide = torch.promote_types(x.dtype, torch.float32)
        gated = x.to(wide) * functional.silu(gate.to(wide))
        grouped = gated.unflatten(-1, (self.groups, -1))
        scaled = grouped * torch.rsqrt(grouped.square().mean(-1, keepdim=True) + self.eps)
        return (scaled.flatten(-2) * self.weight).to(x.dtype)
