"""Task: what a run trains; the learner trains all of them alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from limner.training.engine import Engine
from limner.training.optimizer import build_optimizer
from limner.training.recipe import OptimizerRecipe


@dataclass(eq=False)
class Piece:
    """Part of a step's batch.

    Args:
        content: what the task reads from it and, from player to player, leaves in it.
        step: that it belongs to.
        rng: its own random numbers, on the CPU.
        seed: of the global generators, which dropout draws from.
    """

    content: Any
    step: int
    rng: torch.Generator
    seed: int


class Player:
    """A network that learns, and how.

    Args:
        name: in checkpoints.
        network: whose weights are learned.
        loss: a module that holds the network and maps a `Piece` to its `LossBreakdown`; None as a
            piece's `rng` asks for the loss as it is measured.
        recipe: of its optimizer.
        engine: of the run.
        since: step from which it learns.
    """

    def __init__(
        self,
        name: str,
        network: nn.Module,
        loss: nn.Module,
        recipe: OptimizerRecipe,
        engine: Engine,
        since: int = 0,
    ) -> None:
        self.name = name
        self.network = network
        self.recipe = recipe
        self.since = since
        self.spread = engine.spread(loss)
        self.optimizer = build_optimizer(network, recipe)


@dataclass(frozen=True)
class Measured:
    """What was measured on held-out pictures.

    Args:
        loss: by which states are compared; less is better.
        parts: other measurements, by name.
    """

    loss: float
    parts: Mapping[str, float] = field(default_factory=dict)


class Task(Protocol):
    """What a run trains."""

    @property
    def players(self) -> Sequence[Player]:
        """Who learn, in the order in which they take a step."""

    @property
    def network(self) -> nn.Module:
        """What is averaged, measured and kept; the first player's."""

    @property
    def keeper(self) -> nn.Module | None:
        """Other state that belongs into checkpoints; None: there is none."""

    @property
    def times_shown(self) -> int:
        """How often pictures are shown over the run, the end included."""

    def start(self) -> None:
        """Do what comes before the first step of a new run."""
        ...

    def pieces(self, step: int) -> list[Piece]:
        """Return this process's pieces of the batch of a step."""
        ...

    def after(self, pieces: Sequence[Piece]) -> Mapping[str, float | Tensor]:
        """Do what follows the players' steps; return more to be logged, by name."""
        ...

    def names(self, step: int) -> list[str]:
        """Return what the pictures of a step's batch are called."""
        ...

    def measure(self) -> Measured:
        """Measure the network as it is on held-out pictures."""
        ...

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Write the network with these weights for use."""
        ...

    def show(self, weights: Mapping[str, Tensor], step: int) -> None:
        """Write pictures that the network makes with these weights."""
        ...
