"""One vector of a text, numbers about the picture and the time, which modulates every block.

Podell et al., "SDXL", arXiv:2307.01952, section 2.2; facts from src/transformer.py of
viiika/Meissonic and models/embeddings.py of huggingface/diffusers 0.31.0.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.layers.timestep import TimestepEmbedding, sinusoid

WAVES = 256
"""Width of the sinusoid of every number."""


class ConditionVector(nn.Module):
    """What is made of a text's vector, numbers about the picture, and the time.

    Args:
        width: in and out.
        numbers: how many there are about the picture.
    """

    def __init__(self, width: int, numbers: int) -> None:
        super().__init__()
        self.into = nn.Linear(width + numbers * WAVES, width, bias=False)
        self.between = nn.Linear(width, width, bias=False)
        self.text_into = nn.Linear(width, width)
        self.text_out = nn.Linear(width, width)
        self.time = TimestepEmbedding(width, WAVES)

    def about(self, pooled: Tensor, numbers: Tensor) -> Tensor:
        """Return what is made of texts [R, width] and numbers [R, n], float [R, width]."""
        waves = sinusoid(numbers, WAVES).flatten(-2).to(pooled)
        about: Tensor = self.between(functional.silu(self.into(torch.cat([pooled, waves], -1))))
        return about

    def forward(self, pooled: Tensor, numbers: Tensor, time: Tensor) -> Tensor:
        """Return the vector, float [R, width], at times [R]."""
        about = self.text_into(self.about(pooled, numbers))
        vector: Tensor = self.time(time) + self.text_out(functional.silu(about))
        return vector
