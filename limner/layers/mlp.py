"""Position-wise networks of transformer blocks."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional


class SwiGLU(nn.Module):
    """out(silu(gate(x)) * value(x)), without biases (Shazeer, arXiv:2002.05202).

    Args:
        width: in and out.
        hidden: of the gated part.
    """

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.gate = nn.Linear(width, hidden, bias=False)
        self.value = nn.Linear(width, hidden, bias=False)
        self.out = nn.Linear(hidden, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        out: Tensor = self.out(functional.silu(self.gate(x)) * self.value(x))
        return out


class MLP(nn.Module):
    """out(dropout(activation(into(x)))), with biases.

    Args:
        width: in and out.
        hidden: of the inner part.
        activation: "gelu" (exact), "gelu-tanh" or "silu".
        dropout: on the inner part, in training.
    """

    def __init__(
        self, width: int, hidden: int, activation: str = "gelu", dropout: float = 0.0
    ) -> None:
        super().__init__()
        self.into = nn.Linear(width, hidden)
        self.activation = {
            "gelu": nn.GELU(),
            "gelu-tanh": nn.GELU(approximate="tanh"),
            "silu": nn.SiLU(),
        }[activation]
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        out: Tensor = self.out(self.dropout(self.activation(self.into(x))))
        return out
