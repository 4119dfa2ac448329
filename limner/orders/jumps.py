"""Orders of few-step students: every step draws all tokens from some place on, the later ones anew.

Distilled Decoding (arXiv:2412.17153): tokens before the place are done, the others are read as
noise.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.order import Step
from limner.core.row import Row


class Jumps:
    """From each place to the end.

    Args:
        starts: rising places, the first token that is drawn at each step.
        count: N, number of tokens.
    """

    def __init__(self, starts: Sequence[int], count: int) -> None:
        self.steps = tuple(
            Step(torch.arange(start, count), index, len(starts), again=index)
            for index, start in enumerate(starts)
        )

    def __len__(self) -> int:
        return len(self.steps)

    def next(self, row: Row) -> Step | None:
        """Return the row's next step, or None after the last."""
        return self.steps[row.step] if row.step < len(self.steps) else None


def jumps_after(starts: Sequence[int], known: Tensor) -> Jumps:
    """Return the jumps that are left where the first tokens are given.

    Args:
        starts: rising places.
        known: bool [N].

    Raises:
        ConfigError: tokens are given that are not the first ones.
    """
    given = int(known.sum())
    check(bool(known[:given].all()), "known", known.tolist(), "the first tokens, or none")
    left = sorted({max(start, given) for start in starts if max(start, given) < len(known)})
    return Jumps(left, len(known))
