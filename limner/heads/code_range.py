"""A categorical head over a vocabulary of which only a range are the codes of pictures."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from limner.core.head import Drawn, LossBreakdown, Turn
from limner.heads.categorical import CategoricalHead
from limner.heads.stages import DEFAULT_STAGES


class CodeRangeHead(CategoricalHead):
    """Codes are the last entries of the vocabulary; prompts and special tokens stand before them.

    Args:
        first: entry of the first code.
        restricted: nothing but codes is drawn. Otherwise ids may be below 0, as in NBP's released
            code, which draws from the whole vocabulary.
    """

    def __init__(self, first: int, restricted: bool = True) -> None:
        super().__init__((self._codes, *DEFAULT_STAGES) if restricted else DEFAULT_STAGES)
        self.first = first

    def loss(
        self,
        outputs: Tensor,
        targets: Tensor,
        rng: torch.Generator | None = None,
        weight: Tensor | None = None,
    ) -> LossBreakdown:
        """See `CategoricalHead.loss`; targets are codes."""
        return super().loss(outputs, targets + self.first, rng, weight)

    def draw(self, turn: Turn) -> Drawn:
        """Draw one code a token."""
        drawn = super().draw(turn)
        assert drawn.ids is not None
        return replace(drawn, ids=drawn.ids - self.first)

    def _codes(self, logits: Tensor, turn: Turn) -> Tensor:
        """Remove what is no code."""
        entry = torch.arange(logits.shape[-1], device=logits.device)
        return logits.masked_fill(entry < self.first, -torch.inf)
