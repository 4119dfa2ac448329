"""The ways that tokens take from noise to data, and how likely they are under another model.

A diffusion head's density of a token is out of reach, but that of the whole way to it, x_T .. x_0,
is a product of Gaussians. Two models of one chain can so be compared by a likelihood ratio that
costs a pass of the denoiser a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from limner.core.head import Outputs
from limner.heads.diffusion import DiffusionHead, NoiseSource
from limner.heads.gaussian import Gaussian
from limner.layers.linear import packed


@dataclass(frozen=True)
class Given:
    """What m tokens are drawn under, each on its own.

    Args:
        outputs: of the network, lead and null [m, 1, Z], scales [m].
        warmth: float [m], temperatures.
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


def walk(head: DiffusionHead, given: Given, noise: NoiseSource) -> Paths:
    """Draw tokens, and remember their ways; the last step draws its noise too.

    Args:
        head: that draws.
        given: under what.
        noise: of the tokens, [m, 1, D].
    """
    steps: list[tuple[Gaussian, Tensor]] = []
    end = head.sample(
        given.outputs,
        given.warmth.expand(2, -1),
        given.respacing,
        noise,
        lambda index, before, noisy: steps.append((before, noisy)),
    )
    states = torch.stack([*(noisy for _, noisy in steps), end])
    return Paths(states, _log_density(given, [before for before, _ in steps], states))


def log_density(head: DiffusionHead, given: Given, states: Tensor) -> Tensor:
    """Return how likely a head is to take given ways, float [m]; see `Paths`.

    Args:
        states: float [S + 1, m, 1, D].
    """
    kernel = head.kernel(given.outputs, given.respacing)
    with packed(head.denoiser, len(given)):
        steps = [kernel(noisy, inner) for inner, noisy in enumerate(states[:-1])]
    return _log_density(given, steps, states)


def _log_density(given: Given, steps: Sequence[Gaussian], states: Tensor) -> Tensor:
    """Return the log-density of ways, but for a constant: float [m], by what steps draw from."""
    total = states.new_zeros(len(given))
    for before, drawn in zip(steps, states[1:], strict=True):
        deviation = (0.5 * before.log_variance).exp() * given.warmth.reshape(-1, 1, 1)
        apart = (drawn - before.mean) / deviation
        total = total - (0.5 * apart.square() + deviation.log()).sum((1, 2))
    return total
