"""How a fresh model can begin with what a tokenizer knows of its codes."""

from __future__ import annotations

import torch
from torch import Tensor


def projected_codes(vectors: Tensor, width: int, rng: torch.Generator) -> Tensor:
    """Return a random projection of code vectors, float32 [V, width] of about unit variance.

    Codes that look alike get projections that are alike, so a model whose embeddings or output rows
    begin with them learns from its first step on what one code's neighbours are.

    Args:
        vectors: float [V, D], one for each code.
        rng: on the CPU.
    """
    known = vectors.detach().float().cpu()
    known = (known - known.mean(0)) / known.std(0).clamp(min=1e-6)
    projection = torch.randn(known.shape[1], width, generator=rng)
    return known @ projection / known.shape[1] ** 0.5
