"""Weights averaged over the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn


class Ema:
    """Exponential moving average of a model's parameters; buffers are not averaged.

    The decay rises to its value as (1 + n) / (10 + n) over the first updates, so that a short run
    does not remember its random beginning.

    Args:
        model: whose parameters are followed; with sharded ones each process follows its parts.
        decay: share of the average that one update keeps.

    Attributes:
        means: the averages, under the names of the parameters.
        updates: how many there were.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = dict(model.named_parameters())
        self.means: Mapping[str, Tensor] = {
            name: parameter.detach().clone() for name, parameter in self._live.items()
        }

    @torch.no_grad()
    def update(self) -> None:
        """Take the present parameters into the average."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        live = [parameter.detach() for parameter in self._live.values()]
        torch._foreach_lerp_(list(self.means.values()), live, 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged parameters into the model for the length of a `with` block."""
        live = {name: parameter.detach().clone() for name, parameter in self._live.items()}
        self._write(self.means)
        try:
            yield
        finally:
            self._write(live)

    @torch.no_grad()
    def _write(self, values: Mapping[str, Tensor]) -> None:
        for name, parameter in self._live.items():
            parameter.copy_(values[name])
