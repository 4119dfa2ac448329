"""Distilled Decoding of LlamaGen: a student that draws all tokens in one step or two.

Liu et al., arXiv:2412.17153; facts from LlamaGen/autoregressive/models/dd.py of microsoft/
distilled_decoding. What students have in common is in `limner.models.student`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.generator import Packed
from limner.core.layout import Layout
from limner.core.memory import Memory
from limner.core.registry import MODELS
from limner.core.slots import up_to
from limner.heads.jumps import JumpHead
from limner.layers.vector_output import VectorOutput
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.student import Student, check_jumps


@dataclass(frozen=True)
class DistilledLlamaGenConfig(LlamaGenConfig):
    """Configuration of a student of LlamaGen.

    Args:
        latent: D, width of a code.
        split: tokens before it become codes, the others stay vectors.
        jumps: tokens that each step draws from on, the first 0.
        tokens: N, of a picture.
    """

    latent: int = 8
    split: int = 80
    jumps: tuple[int, ...] = (0, 80)
    tokens: int = 256

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.condition == "class", "condition", self.condition, "'class'")
        check(self.latent > 0, "latent", self.latent, "1 or more")
        check_jumps(self.split, self.jumps, self.tokens)


@MODELS.family("distilled-llamagen", DistilledLlamaGenConfig)
class DistilledLlamaGen(Student, LlamaGen):
    """LlamaGen that reads codes or noise of all tokens at once, and tells each at its own place.

    Args:
        config: see `DistilledLlamaGenConfig`.
    """

    config: DistilledLlamaGenConfig

    def __init__(self, config: DistilledLlamaGenConfig) -> None:
        super().__init__(config)
        width = config.width
        self.tokens = nn.Linear(config.latent, width)  # type: ignore[assignment]
        self.kinds = nn.Embedding(2, width)
        nn.init.normal_(self.kinds.weight, std=0.02)
        self.vectors = VectorOutput(width, config.latent)
        self.head = JumpHead(config.split)

    def starts(self, layout: Layout) -> tuple[int, ...]:
        """The tokens that are jumped from."""
        return self.config.jumps

    def levels(self, layout: Layout) -> Tensor:
        """Tokens, from 1."""
        return torch.arange(1, len(layout) + 1)

    def inputs(self, packed: Packed) -> Tensor:
        """Codes or noise, and the class; and what they are: [R, L, width]."""
        words = self.tokens(packed.values().to(self.output.weight.dtype))
        given = self.condition.prefix(packed.condition)
        content = torch.where((packed.place < 0).unsqueeze(-1), given, words)
        return content + self.known_kinds(packed)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits and vectors, float [R, M, V + D]."""
        x, rotation = self.dropout(self.inputs(packed)), self.rotation(packed)
        reading = memory.read(packed.rows, packed.slots, up_to)
        for block in self.blocks:
            x = block(x, reading, rotation)
        reading.close()
        x, vector = packed.speaking(x), self.condition.prefix(packed.condition)
        return torch.cat([self.output(self.norm(x)), self.vectors(x, vector)], dim=-1)


def _register_variants() -> None:
    for name, split, published in (("b", 80, 98_321_672), ("l", 130, 326_155_272)):
        teacher = MODELS.get_variant(f"llamagen-{name}").config
        config = DistilledLlamaGenConfig(**vars(teacher), split=split, jumps=(0, 80))
        MODELS.variant(f"distilled-llamagen-{name}", "distilled-llamagen", config, published)


_register_variants()
