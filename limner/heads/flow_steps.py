"""One solver step of a flow a step: what is between noise and data lies in the tokens themselves.

The generator tells the velocity and may remember every step, as ARFlow does (arXiv:2501.16085);
in `limner.heads.flow` a step walks a whole flow, and only its first pass is remembered.
"""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from limner.core.head import Drawn, Turn
from limner.heads.solvers import SOLVERS
from limner.heads.token_means import SquaredErrorHead


class FlowStepHead(SquaredErrorHead):
    """Moves drafts from the level of a step to the next; it has no weights.

    Args:
        token: D, width of a token.
        solver: "euler", or "euler-maruyama" (stochastic): the solvers that look once a step.
        guided: so many first numbers of a token are guided; the lead's own velocity moves the rest.
    """

    def __init__(self, token: int, solver: Literal["euler", "euler-maruyama"], guided: int) -> None:
        self.token = token
        self.solver = solver
        self.guided = guided

    def draw(self, turn: Turn) -> Drawn:
        """Move all rows from their levels to the next ones."""
        levels = torch.stack([_levels(step.level) for step in turn.steps], dim=1)
        draft = self._drafts(turn, levels[0])

        def velocity(x: Tensor, time: Tensor) -> Tensor:
            outputs = turn.evaluate(x, time.to(x.device, torch.float32))
            told = outputs.lead.clone()
            told[..., : self.guided] = outputs.guided()[..., : self.guided]
            return told.to(x)

        def noise(inner: int) -> Tensor:
            return turn.noise("normal", "solver", inner, (self.token,))

        return Drawn(values=SOLVERS[self.solver](velocity, draft, levels, noise))

    def _drafts(self, turn: Turn, levels: Tensor) -> Tensor:
        """Return what the tokens of all rows are now, float [R, n, D].

        Rows begin with white noise, whose deviation is their temperature; given tokens are noised
        anew at every step.
        """
        values = [row.tokens.values for row in turn.rows]
        drafts = torch.stack(
            [
                value[0, step.draw.to(turn.device)]
                for value, step in zip(values, turn.steps, strict=True)
                if value is not None
            ]
        )
        drafts = drafts.to(torch.promote_types(drafts.dtype, torch.float32))
        begins = [step.index == 0 for step in turn.steps]
        held = [row.held is not None for row in turn.rows]
        if not any(begins) and not any(held):
            return drafts
        white = turn.noise("normal", "start", 0, (self.token,)).to(drafts)
        for index, (row, step) in enumerate(zip(turn.rows, turn.steps, strict=True)):
            clean = drafts[index].clone()
            if begins[index]:
                drafts[index] = row.options.temperature * white[index]
            if row.held is not None:
                given = torch.lerp(clean, white[index], float(levels[index]))
                where = row.held[step.draw].to(given.device).unsqueeze(-1)
                drafts[index] = torch.where(where, given, drafts[index])
        return drafts


def _levels(level: Tensor | None) -> Tensor:
    """Return the level of a step's tokens, from and to, float64 [2]."""
    assert level is not None
    return level[0]
