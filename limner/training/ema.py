"""Weights averaged over the steps of a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn


class Ema:
    """Exponential moving average of a model's parameters; buffers are not averaged.

    The decay rises to its value as (1 + n) / (10 + n) over the first updates, so that a short run
    does not remember its random beginning.

    Args:
        model: whose parameters are followed.
        decay: share of the average that one update keeps.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.updates = 0
        self._live = list(model.parameters())
        self._mean = [parameter.detach().clone() for parameter in self._live]

    @torch.no_grad()
    def update(self) -> None:
        """Take the present parameters into the average."""
        self.updates += 1
        keep = min(self.decay, (1 + self.updates) / (10 + self.updates))
        torch._foreach_lerp_(self._mean, [p.detach() for p in self._live], 1 - keep)

    @contextmanager
    def applied(self) -> Iterator[None]:
        """Put the averaged parameters into the model for the length of a `with` block."""
        live = [parameter.detach().clone() for parameter in self._live]
        self._write(self._mean)
        try:
            yield
        finally:
            self._write(live)

    @torch.no_grad()
    def _write(self, values: list[torch.Tensor]) -> None:
        for parameter, value in zip(self._live, values, strict=True):
            parameter.copy_(value)
