"""Position-wise networks of transformer blocks."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.autograd.function import FunctionCtx, once_differentiable
from torch.nn import functional

from limner.layers.linear import Linear


class SwiGLU(nn.Module):
    """out(silu(gate(x)) * value(x)), without biases (Shazeer, arXiv:2002.05202).

    Args:
        width: in and out.
        hidden: of the gated part.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = Linear(width, hidden, bias=False)
        self.value = Linear(width, hidden, bias=False)
        self.out = Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        out: Tensor = self.out(_Gated.apply(self.gate(x), self.value(x)))
        return out


class _Gated(torch.autograd.Function):
    """silu(gate) * value; only these two are remembered, and silu is computed again."""

    @staticmethod
    def forward(ctx: FunctionCtx, gate: Tensor, value: Tensor) -> Tensor:
        ctx.save_for_backward(gate, value)
        return functional.silu(gate).mul_(value)

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor, Tensor]:
        gate, value = ctx.saved_tensors  # type: ignore[attr-defined]
        by_gate: Tensor = torch.ops.aten.silu_backward(gradient * value, gate)
        return by_gate, functional.silu(gate).mul_(gradient)


class GEGLU(nn.Module):
    """out(dropout(gelu(gate(x)) * value(x))) with exact GELU and biases (arXiv:2002.05202).

    Args:
        width: in and out.
        hidden: of the gated part.
        dropout: on the gated part, in training.
    """

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.gate = Linear(width, hidden)
        self.value = Linear(width, hidden)
        self.dropout = nn.Dropout(dropout)
        self.out = Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        gated = functional.gelu(self.gate(x)) * self.value(x)
        out: Tensor = self.out(self.dropout(gated))
        return out


class MLP(nn.Module):
    """out(dropout(activation(into(x)))).

    Args:
        width: in and out.
        hidden: of the inner part.
        activation: "gelu" (exact), "gelu-tanh" or "silu".
        dropout: on the inner part, in training.
        bias: of both linear maps.
    """

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: str = "gelu",
        dropout: float = 0.0,
        bias: bool = True,
    ) -> None:
        super().__init__()
        self.into = Linear(width, hidden, bias=bias)
        self.activation = activation
        self.dropout = nn.Dropout(dropout)
        self.out = Linear(hidden, width, bias=bias)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        out: Tensor = self.out(self.dropout(self.into(x, self.activation)))
        return out
