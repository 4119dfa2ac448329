"""A denoiser for one vector at a time: an MLP that time and a condition modulate.

Li et al., "Autoregressive Image Generation without Vector Quantization", arXiv:2406.11838;
facts from `SimpleMLPAdaLN` in models/diffloss.py of LTH14/mar.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.layers.adaln import Modulation, modulated
from limner.layers.linear import Linear
from limner.layers.mlp import MLP
from limner.layers.timestep import TimestepEmbedding

EPS = 1e-6


class DenoiserBlock(nn.Module):
    """h + gate MLP(LN(h) (1 + scale) + shift).

    Args:
        width: of the block and of what modulates it.
    """

    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPS)
        self.mlp = MLP(width, width, "silu")
        self.modulation = Modulation(width, chunks=3)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Map float [..., width] to the same shape."""
        shift, scale, gate = self.modulation(guide).unbind(-2)
        return torch.addcmul(x, gate, self.mlp(modulated(x, self.norm, scale, shift)))


class Denoiser(nn.Module):
    """Maps a noisy vector, its time and a condition to `outputs` numbers.

    Args:
        token: D, width of the noisy vector.
        condition: width of the condition.
        outputs: numbers told of each vector.
        width: of the blocks.
        depth: number of blocks.
    """

    def __init__(self, token: int, condition: int, outputs: int, width: int, depth: int) -> None:
        super().__init__()
        self.time = TimestepEmbedding(width)
        self.condition = Linear(condition, width)
        self.into = nn.Linear(token, width)
        self.blocks = nn.ModuleList(DenoiserBlock(width) for _ in range(depth))
        self.norm = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.modulation = Modulation(width, chunks=2)
        self.out = nn.Linear(width, outputs)
        self.initialise()

    def initialise(self) -> None:
        """Xavier weights; every block passes its input through, and the output is zero."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight)
                nn.init.zeros_(module.bias)
        self.time.initialise()
        for module in self.modules():
            if isinstance(module, Modulation):
                nn.init.zeros_(module.linear.weight)
        nn.init.zeros_(self.out.weight)

    def forward(self, x: Tensor, guide: Tensor) -> Tensor:
        """Map noisy vectors, float [..., D], to float [..., outputs].

        Args:
            guide: float [..., width], the sum of `time(t)` and `condition(z)`; a solver computes
                the latter once for all its steps.
        """
        x = self.into(x)
        for block in self.blocks:
            x = block(x, guide)
        shift, scale = self.modulation(guide).unbind(-2)
        out: Tensor = self.out(modulated(x, self.norm, scale, shift))
        return out
