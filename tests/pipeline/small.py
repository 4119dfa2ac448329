"""A tiny random generator of five classes or of captions, and what its pictures are made of."""

from __future__ import annotations

import torch
from torch import Tensor

from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.pipeline import Result

SIZE, CODES, TOKENS = 32, 16, 16
CLASSES = ("Fox", "Oak", "Tulip", "Whale", "7")


def generator(condition: str = "class") -> LlamaGen:
    torch.manual_seed(0)
    config = LlamaGenConfig(
        width=16, depth=2, heads=2, codebook_size=CODES, classes=len(CLASSES), text_length=3,
        condition=condition, multiple_of=8,
    )  # fmt: skip
    model = LlamaGen(config)
    for parameter in model.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=0.4)
    return model.double()  # ids are then the same in any batch


def ids(result: Result) -> Tensor:
    """Int64 [B, N]."""
    assert result.tokens.ids is not None
    return result.tokens.ids[..., 0]
