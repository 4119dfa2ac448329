"""A turn whose outputs are given, for tests of heads and stages."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.core.head import Outputs
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.order import Partition
from limner.core.row import Options, Row
from limner.core.tokens import empty


class GivenTurn:
    """R rows that draw n tokens each; row r has seed r and its own options."""

    def __init__(self, logits: Tensor, options: Sequence[Options]) -> None:
        rows, count = logits.shape[:2]
        order = Partition(torch.zeros(count, dtype=torch.int64))
        self.logits = logits
        self.rows = [
            Row(empty(grid(1, count), codes=1), order, SeededNoise(row), {}, options[row])
            for row in range(rows)
        ]
        self.steps = [order.steps[0]] * rows
        self.tokens = torch.arange(count).expand(rows, count)
        self.device = logits.device

    def evaluate(self, draft: Tensor | None = None, level: Tensor | None = None) -> Outputs:
        return Outputs(self.logits, None, torch.full((len(self.rows),), float("nan")))

    def noise(self, kind: str, purpose: str, inner: int = 0, shape: tuple[int, ...] = ()) -> Tensor:
        return torch.stack(
            [
                getattr(row.noise, kind)(purpose, self.steps[0].draw, inner, shape)
                for row in self.rows
            ]
        )
