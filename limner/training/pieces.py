"""Which part of every batch this process learns from, and with which random numbers."""

from __future__ import annotations

from typing import Any

import torch

from limner.core.errors import check
from limner.core.seeds import seeded
from limner.training.engine import Engine
from limner.training.recipe import Budget
from limner.training.task import Piece


class Share:
    """This process's share of every batch, in pieces.

    A piece's random numbers depend on the seed, the step and the piece's number in the whole batch:
    as long as there are as many pieces, the number of processes changes nothing.

    Args:
        budget: says how large a batch is and how it is cut.
        seed: of the run.
        engine: of the run.

    Attributes:
        size: examples a batch of this process.
        piece_size: examples a piece.

    Raises:
        ConfigError: the pieces cannot be shared among the processes.
    """

    def __init__(self, budget: Budget, seed: int, engine: Engine) -> None:
        pieces = max(budget.pieces, engine.ranks)
        fits = pieces % engine.ranks == 0 and budget.batch % pieces == 0
        accepted = f"a multiple of {engine.ranks} processes and a divisor of batch={budget.batch}"
        check(fits, "budget.pieces", pieces, accepted)
        self.batch = budget.batch
        self.seed = seed
        self.pieces = pieces // engine.ranks
        self.piece_size = budget.batch // pieces
        self.size = self.pieces * self.piece_size
        self.rank = engine.rank

    def first(self, step: int) -> int:
        """Return the position in the endless order at which this process's batch begins."""
        return step * self.batch + self.rank * self.size

    def piece(self, step: int, number: int, content: Any) -> Piece:
        """Return this process's piece of a number, with random numbers of its own."""
        rng = seeded(self.seed, "piece", step, self.rank * self.pieces + number)
        return Piece(content, step, rng, int(torch.randint(2**62, (), generator=rng)))
