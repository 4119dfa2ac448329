"""Residual vector quantisation: every level quantises what the levels before it left over.

Lee et al., "Autoregressive image generation using residual quantization", CVPR 2022
(arXiv:2203.01941); Zeghidour et al., "SoundStream", arXiv:2107.03312 (dropped levels); as in
`ResidualVQ` of vector-quantize-pytorch 1.32.0.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.tokenizers.quantizers.codebook import Codebook
from limner.tokenizers.quantizers.gradients import straight_through
from limner.tokenizers.quantizers.quantizer import Assignment, Quantized, Quantizer, wide


@dataclass(frozen=True)
class ResidualVQConfig:
    """Shape and losses of a residual quantiser.

    Args:
        kind: "residual".
        levels: C, codes a vector.
        codebook_size: V of every level.
        width: D.
        shared: all levels use one table.
        commitment: weight of the loss that draws residuals to their codes, at every level.
        pull: weight of the loss that draws codes to their residuals; 0 where moving averages do.
    """

    kind: Literal["residual"] = "residual"
    levels: int = 4
    codebook_size: int = 1024
    width: int = 8
    shared: bool = False
    commitment: float = 0.25
    pull: float = 1.0

    def __post_init__(self) -> None:
        check(self.levels > 1, "levels", self.levels, "at least 2")
        check(self.codebook_size > 0, "codebook_size", self.codebook_size, "at least 1")
        check(self.width > 0, "width", self.width, "at least 1")
        check(self.commitment >= 0, "commitment", self.commitment, "0 or more")
        check(self.pull >= 0, "pull", self.pull, "0 or more")


class ResidualVQ(Quantizer):
    """A sum of codes, coarse to fine. A level whose id is -1 adds nothing.

    Module names: `tables.{k}.weight`; a single table where it is shared.

    Args:
        config: see `ResidualVQConfig`.
    """

    def __init__(self, config: ResidualVQConfig) -> None:
        super().__init__()
        self.config = config
        self.codebook_size = config.codebook_size
        self.width = config.width
        self.depth = config.levels
        self.tables = nn.ModuleList(
            Codebook(
                config.codebook_size, config.width, commitment=config.commitment, pull=config.pull
            )
            for _ in range(1 if config.shared else config.levels)
        )

    def quantize(self, vectors: Tensor, levels: int | None = None) -> Quantized:
        """Quantise vectors [..., D].

        Args:
            levels: how many of the first levels are used; a number drawn anew for every batch
                makes any prefix of codes decode well. None: all.

        Returns:
            The sum of the codes, ids [..., C] (-1 at levels that are not used), and the losses
            "vq.{k}" and "commitment.{k}" of every level.
        """
        used = self.depth if levels is None else levels
        check(0 < used <= self.depth, "levels", used, f"from 1 to {self.depth}")
        vectors = wide(vectors)
        total = torch.zeros_like(vectors)
        ids = torch.full((*vectors.shape[:-1], self.depth), -1, device=vectors.device)
        losses: dict[str, Tensor] = {}
        for level, table in enumerate(self.codebooks_by_level()[:used]):
            step = table(vectors - total)
            ids[..., level] = step.ids
            losses |= {f"{name}.{level}": loss for name, loss in step.losses.items()}
            total = total + step.values.detach()
        return Quantized(straight_through(vectors, total), ids, losses)

    @torch.no_grad()
    def nearest(self, vectors: Tensor) -> Tensor:
        """Return the ids of vectors [..., D], int64 [..., C]."""
        rest, ids = wide(vectors), []
        for table in self.codebooks_by_level():
            ids.append(table.nearest(rest))
            rest = rest - table.lookup(ids[-1])
        return torch.stack(ids, dim=-1)

    def lookup(self, ids: Tensor) -> Tensor:
        """Return the sum of the codes of ids [..., C], float [..., D]."""
        return torch.stack(list(self.parts(ids))).sum(dim=0)

    def parts(self, ids: Tensor) -> Iterator[Tensor]:
        """Yield the code of each level of ids [..., C], float [..., D]; 0 where the id is -1."""
        for table, chosen in zip(self.codebooks_by_level(), ids.unbind(-1), strict=True):
            yield table.lookup(chosen.clamp(min=0)) * (chosen >= 0).unsqueeze(-1)

    def codebooks(self) -> Sequence[Codebook]:
        """Return the tables; one where it is shared."""
        return [table for table in self.tables if isinstance(table, Codebook)]

    def codebooks_by_level(self) -> Sequence[Codebook]:
        """Return the table of every level."""
        tables = self.codebooks()
        return [tables[0]] * self.depth if self.config.shared else tables

    def assignments(self, vectors: Tensor, ids: Tensor) -> Sequence[Assignment]:
        """Return the residuals of each level and their codes; all together for a shared table."""
        rest = wide(vectors)
        levels: list[Assignment] = []
        for table, part, chosen in zip(
            self.codebooks_by_level(), self.parts(ids), ids.unbind(-1), strict=True
        ):
            levels += table.assignments(rest, chosen)
            rest = rest - part
        if not self.config.shared:
            return levels
        together = torch.cat([level.vectors for level in levels])
        return [Assignment(self.codebooks()[0], together, torch.cat([one.ids for one in levels]))]
