"""Several embeddings as one token of a decoder, and one hidden state as several again.

Ma et al., "Token-Shuffle: Towards High-Resolution Image Generation with Autoregressive Models",
arXiv:2504.17789. No code is published; widths, norms and biases are a choice.
"""

from __future__ import annotations

from torch import Tensor, nn

from limner.layers.linear import Linear
from limner.layers.mlp import MLP
from limner.layers.norms import RMSNorm


class ResidualMLP(nn.Module):
    """x + mlp(norm(x)) with exact GELU and without biases.

    Args:
        width: in and out.
        hidden: of the inner part.
        norm_eps: of the RMS norm.
    """

    def __init__(self, width: int, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.norm = RMSNorm(width, norm_eps)
        self.mlp = MLP(width, hidden, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        out: Tensor = x + self.mlp(self.norm(x))
        return out


class TokenShuffle(nn.Module):
    """The embeddings of a window, each squeezed, side by side in the channels of one token.

    Args:
        width: of the embeddings and of the token.
        count: embeddings of a window; divides `width`.
        depth: residual MLPs behind them.
        hidden: of those.
        norm_eps: of their norms.
    """

    def __init__(self, width: int, count: int, depth: int, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.compress = Linear(width, width // count, bias=False)
        self.blocks = nn.Sequential(*(ResidualMLP(width, hidden, norm_eps) for _ in range(depth)))

    def forward(self, embeddings: Tensor) -> Tensor:
        """Map float [..., count, width] to [..., width]."""
        token: Tensor = self.blocks(self.compress(embeddings).flatten(-2))
        return token


class TokenUnshuffle(nn.Module):
    """A hidden state cut into what is said of each place of a window.

    Args:
        width: of the state and of what is said.
        count: places of a window; divides `width`.
        depth: residual MLPs before.
        hidden: of those.
        norm_eps: of their norms.
    """

    def __init__(self, width: int, count: int, depth: int, hidden: int, norm_eps: float) -> None:
        super().__init__()
        self.count = count
        self.blocks = nn.Sequential(*(ResidualMLP(width, hidden, norm_eps) for _ in range(depth)))
        self.expand = Linear(width // count, width, bias=False)

    def forward(self, state: Tensor) -> Tensor:
        """Map float [..., width] to [..., count, width]."""
        said: Tensor = self.expand(self.blocks(state).unflatten(-1, (self.count, -1)))
        return said
