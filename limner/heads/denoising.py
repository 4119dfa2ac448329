"""Denoising head: the generator itself tells the noise in a draft of the tokens that are drawn.

Where the diffusion head has a small network of its own, block diffusion reads the draft with the
whole backbone, as often as the solver asks (ACDiT, arXiv:2412.07720).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from limner.core.errors import check
from limner.core.head import Drawn, Turn
from limner.core.order import Step
from limner.core.row import Row
from limner.heads.annealing import StepAnnealing
from limner.heads.dpm_solver import dpm_solver, linspace_timesteps
from limner.heads.flow import InnerSteps, SameCount
from limner.heads.gaussian import GaussianTables, gaussian_tables
from limner.heads.token_means import SquaredErrorHead

EVALUATION_SEED = 0


@dataclass(frozen=True)
class DenoisingConfig:
    """Configuration of a denoising head.

    Args:
        steps: of the solver.
        schedule: of the noise.
        chain: steps of the full chain.
    """

    steps: int = 25
    schedule: Literal["linear", "cosine"] = "linear"
    chain: int = 1000

    def __post_init__(self) -> None:
        check(self.chain > 1, "chain", self.chain, "2 or more")
        linspace_timesteps(self.chain, self.steps)


class DenoisingHead(SquaredErrorHead, nn.Module):
    """Draws all tokens of a step by DPM-Solver++; it has no weights.

    Args:
        token: D, width of a token.
        config: see `DenoisingConfig`.

    Attributes:
        inner_steps: how many solver steps a row takes that is not annealed; by default the
            configuration's number.
        solver_steps: least and most that an annealed row may take.
    """

    def __init__(self, token: int, config: DenoisingConfig) -> None:
        super().__init__()
        self.token = token
        self.config = config
        self.inner_steps: InnerSteps = SameCount(config.steps)
        self.solver_steps = (1, config.chain - 1)

    @property
    def tables(self) -> GaussianTables:
        """The full chain."""
        return gaussian_tables(self.config.schedule, self.config.chain)

    def draw(self, turn: Turn) -> Drawn:
        """Draw all tokens of the turn; rows with fewer solver steps stand still at their end."""
        values = turn.rows[0].tokens.values
        assert values is not None
        heat = torch.tensor([row.options.temperature for row in turn.rows], dtype=torch.float64)
        start = heat.reshape(-1, 1, 1) * turn.noise("normal", "start", 0, (self.token,))
        start = start.to(turn.device, torch.promote_types(values.dtype, torch.float32))

        def noise(x: Tensor, time: Tensor) -> Tensor:
            return turn.evaluate(x, time.to(turn.device, torch.float32)).guided().to(x)

        steps = [self.count(row, step) for row, step in zip(turn.rows, turn.steps, strict=True)]
        return Drawn(values=dpm_solver(noise, start, self.tables, steps))

    def count(self, row: Row, step: Step) -> int:
        """Return how many solver steps a row takes."""
        annealing: StepAnnealing | None = row.options.annealing
        return self.inner_steps(row, step) if annealing is None else annealing.count(step)
