"""All tokens at every step, each time at a lower noise level: solver steps as an order."""

from __future__ import annotations

from torch import Tensor

from limner.core.order import Step
from limner.core.row import Row


class NoiseLevels:
    """Brings all tokens from one noise level to the next; `Step.level` says from where and to.

    Args:
        tokens: int64 [n], drawn at every step.
        times: float64 [S + 1], falling from 1 (noise) to 0 (data).
    """

    def __init__(self, tokens: Tensor, times: Tensor) -> None:
        pairs = times.unfold(0, 2, 1)
        self.steps = tuple(
            Step(tokens, index, len(pairs), pair.expand(len(tokens), 2), again=index)
            for index, pair in enumerate(pairs)
        )

    def __len__(self) -> int:
        return len(self.steps)

    def next(self, row: Row) -> Step | None:
        """Return the row's next step, or None after the last."""
        return self.steps[row.step] if row.step < len(self.steps) else None
