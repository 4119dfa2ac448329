"""The ways that tokens take from noise to data, and how likely they are under another model.

A diffusion head's density of a token is out of reach, but that of the whole way to it, x_T .. x_0,
is a product of Gaussians. Two models of one chain can so be compared by a likelihood ratio that
costs a pass of the denoiser a step.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.head import Outputs
from limner.heads.diffusion import DiffusionHead
from limner.heads.gaussian import Gaussian
from limner.layers.linear import packed

PathNoise = Callable[[str, int], Tensor]
"""("start" or "solver", inner step) -> standard normal noise, [m, 1, D]."""


@dataclass(frozen=True)
class Given:
    """What m tokens are drawn under, each on its own.

    Args:
        outputs: of the network, lead and null [m, 1, Z], scales [m].
        warmth: float [m, 1, 1], temperatures.
        respacing: the denoising steps that all of them walk.
    """

    outputs: Outputs
    warmth: Tensor
    respacing: str

    def __len__(self) -> int:
        return len(self.warmth)

    def at(self, index: Tensor) -> Given:
        """Return some of the tokens."""
        lead, null, scales = self.outputs.lead, self.outputs.null, self.outputs.scales
        chosen = Outputs(lead[index], None if null is None else null[index], scales[index])
        return replace(self, outputs=chosen, warmth=self.warmth[index])

    def split(self, counts: Sequence[int]) -> list[Given]:
        """Return successive groups of the tokens."""
        return [self.at(index) for index in torch.arange(len(self)).split(list(counts))]

    @staticmethod
    def joined(parts: Sequence[Given]) -> Given:
        """Return the tokens of several, which walk alike."""
        nulls = [part.outputs.null for part in parts]
        known = [null for null in nulls if null is not None]
        outputs = Outputs(
            torch.cat([part.outputs.lead for part in parts]),
            torch.cat(known) if known else None,
            torch.cat([part.outputs.scales for part in parts]),
        )
        return Given(outputs, torch.cat([part.warmth for part in parts]), parts[0].respacing)


@dataclass(frozen=True)
class Paths:
    """Ways from noise to data.

    Args:
        states: float [S + 1, m, 1, D], the noisiest first.
        log_density: float [m], of all steps, given the first state.
    """

    states: Tensor
    log_density: Tensor

    @property
    def values(self) -> Tensor:
        """Where they end, float [m, D]."""
        return self.states[-1].squeeze(1)


def walk(head: DiffusionHead, given: Given, noise: PathNoise) -> Paths:
    """Draw tokens, and remember their ways; the last step draws its noise too.

    Args:
        head: that draws.
        given: under what.
        noise: "start" once, then "solver" for every step.
    """
    lead = given.outputs.lead
    kernel = head.kernel(given.outputs, given.respacing)
    x = noise("start", 0).to(lead.device, torch.promote_types(lead.dtype, torch.float32))
    states, log_density = [x], x.new_zeros(len(given))
    with packed(head.denoiser, len(given)):
        for inner in range(len(head.tables(given.respacing))):
            before, drawn = kernel(x, inner), noise("solver", inner).to(x)
            x = before.mean + _deviation(before, given) * drawn
            log_density = log_density + _log_density(before, given, drawn)
            states.append(x)
    return Paths(torch.stack(states), log_density)


def log_density(head: DiffusionHead, given: Given, states: Tensor) -> Tensor:
    """Return how likely a head is to take given ways, float [m]; see `Paths`.

    Args:
        states: float [S + 1, m, 1, D].
    """
    kernel = head.kernel(given.outputs, given.respacing)
    total = states.new_zeros(len(given))
    with packed(head.denoiser, len(given)):
        for inner in range(len(states) - 1):
            before = kernel(states[inner], inner)
            drawn = (states[inner + 1] - before.mean) / _deviation(before, given)
            total = total + _log_density(before, given, drawn)
    return total


def _deviation(before: Gaussian, given: Given) -> Tensor:
    return (0.5 * before.log_variance).exp() * given.warmth


def _log_density(before: Gaussian, given: Given, drawn: Tensor) -> Tensor:
    """Return the log-density of standardised numbers [m, 1, D], but for a constant: float [m]."""
    return -(0.5 * drawn.square() + _deviation(before, given).log()).sum((1, 2))
