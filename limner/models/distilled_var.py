"""Distilled Decoding of VAR: a student that draws all scales in one step or two.

Liu et al., arXiv:2412.17153; facts from VAR/models/dd.py of microsoft/distilled_decoding. What
students have in common is in `limner.models.student`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from limner.core.generator import Generator, Packed
from limner.core.layout import Layout
from limner.core.memory import Memory
from limner.core.registry import MODELS
from limner.core.slots import before_or_self
from limner.heads.jumps import JumpHead
from limner.layers.adaln import AdaLNBlock
from limner.layers.vector_output import VectorOutput
from limner.models.student import Student, check_jumps
from limner.models.var import VAR, VARConfig


@dataclass(frozen=True)
class DistilledVARConfig(VARConfig):
    """Configuration of a student of VAR.

    Args:
        split: scales before it become codes, the others stay vectors.
        jumps: scales that each step draws from on, the first 0.
        layerwise: what is noise is told again between the branches of every block.
    """

    split: int = 5
    jumps: tuple[int, ...] = (0, 5)
    layerwise: bool = True

    def __post_init__(self) -> None:
        super().__post_init__()
        check_jumps(self.split, self.jumps, len(self.scales))


@MODELS.family("distilled-var", DistilledVARConfig)
class DistilledVAR(Student, VAR):
    """VAR that reads codes or noise of all scales at once, each token those of coarser scales.

    Args:
        config: see `DistilledVARConfig`.
    """

    config: DistilledVARConfig
    visible = staticmethod(before_or_self)

    def __init__(self, config: DistilledVARConfig) -> None:
        super().__init__(config)
        width = config.width
        self.kinds = nn.Embedding(2, width)
        nn.init.trunc_normal_(self.kinds.weight, std=(3 * width) ** -0.5)
        count = config.depth + 1 if config.layerwise else 0
        self.told = nn.ModuleList(nn.Linear(width, width) for _ in range(count))
        self.vectors = VectorOutput(width, config.latent)
        areas = [rows * columns for rows, columns in config.sizes[: config.split]]
        self.head = JumpHead(sum(areas))

    def _add_places(self) -> None:
        """The class has a scale and a place of its own, before those of the tokens."""
        width = self.config.width
        self.start = nn.Parameter(torch.empty(1, width))
        self.scales = nn.Embedding(len(self.config.sizes) + 1, width)
        self.places = nn.Embedding(self.config.length + 1, width)

    @torch.no_grad()
    def start_from(self, teacher: Generator) -> None:
        """Begin with the teacher's weights; its first scale and place are the class's here."""
        super().start_from(teacher)
        assert isinstance(teacher, VAR)
        for own, theirs in ((self.scales, teacher.scales), (self.places, teacher.places)):
            own.weight[0] = theirs.weight[0]
            own.weight[2:] = theirs.weight[1:]

    def starts(self, layout: Layout) -> tuple[int, ...]:
        """The first token of the scales that are jumped from."""
        return tuple(layout.span(scale).start for scale in self.config.jumps)

    def levels(self, layout: Layout) -> Tensor:
        """Scales, from 1."""
        return layout.coordinates()[:, 0] + 1

    def inputs(self, packed: Packed) -> Tensor:
        """Codes or noise, and the class; what they are, their scale and place: [R, L, width]."""
        words = self.words(packed.values().to(self.words.weight.dtype))
        start = self.condition.prefix(packed.condition) + self.start
        content = torch.where((packed.place < 0).unsqueeze(-1), start, words)
        level = packed.slots.since.to(packed.device)
        embedded: Tensor = content + self.scales(level) + self.places(packed.place + 1)
        return embedded + self.known_kinds(packed)

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        """Return logits and vectors, float [R, M, V + D]."""
        x, vector = self.inputs(packed), self.condition.prefix(packed.condition)
        modulating = vector if self.shared is None else self.shared(vector)
        kinds = self.known_kinds(packed)
        told: list[Any] = [layer(kinds) for layer in self.told] or [0.0] * (len(self.blocks) + 1)
        reading = memory.read(packed.rows, packed.slots, self.visible)
        for block, added in zip(self.blocks, told, strict=False):
            assert isinstance(block, AdaLNBlock)
            attention, mlp = block.chunks(modulating)
            x = block.branch(x, attention, block.attention, reading) + added
            x = block.branch(x, mlp, block.mlp)
        reading.close()
        x = packed.speaking(x + told[-1])
        return torch.cat([self.output(self.norm(x, vector)), self.vectors(x, vector)], dim=-1)


def _register_variants() -> None:
    sizes = {"d16": (5, 328_165_664), "d20": (4, 635_399_088), "d24": (4, 1_092_478_560)}
    for name, (split, published) in sizes.items():
        teacher = MODELS.get_variant(f"var-{name}").config
        config = DistilledVARConfig(**vars(teacher), split=split, jumps=(0, split))
        MODELS.variant(f"distilled-var-{name}", "distilled-var", config, published)


_register_variants()
