"""Continuous outputs beside logits, as students of Distilled Decoding have them.

arXiv:2412.17153; facts from `FinalLayer` in VAR/models/dd.py of microsoft/distilled_decoding.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

EPS = 1e-6


class VectorOutput(nn.Module):
    """A linear map of normed hidden states, scaled and shifted by the class.

    Args:
        width: of the hidden states and the class vector.
        outputs: numbers told.
    """

    def __init__(self, width: int, outputs: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, EPS, elementwise_affine=False)
        self.table = nn.Parameter(torch.randn(2, width) / width**0.5)
        self.linear = nn.Linear(width, outputs)

    def forward(self, x: Tensor, vector: Tensor) -> Tensor:
        """Map float [R, L, width], under class vectors [R, 1, width], to [R, L, outputs]."""
        shift, scale = (self.table.unsqueeze(0) + vector).unsqueeze(-2).unbind(1)
        out: Tensor = self.linear(self.norm(x) * (1 + scale) + shift)
        return out
