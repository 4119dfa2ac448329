"""What the best possible velocity draws keeps the variance of the data: exact, for Gaussian maps.

All that training sees is linear in the latents and in white noise, so that with Gaussian latents
the best velocity, E[start - end | where a stage stands, what the trunk reads], is linear and known.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from limner.core.generator import Packed
from limner.core.layout import pyramid
from limner.core.memory import Memory
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.heads.multistage import MultistageConfig, ends, noise_along, stages
from limner.layers.flow_transformer import FlowTransformerConfig, TokenPlaces
from limner.layers.vision_transformer import StackConfig
from limner.models.ecar import ECAR, ECARConfig
from limner.tokenizers.latent_pyramids import as_tokens

SIDES = (2, 4, 8)
LAYOUT = pyramid(tuple((side, side) for side in SIDES), kind="values")
COUNT = 1024  # pictures that are drawn: the channels of one row, as a channel is a picture here
CONFIG = ECARConfig(
    StackConfig(4, 1, 1),
    FlowTransformerConfig(4, 1, 4),
    token_width=COUNT,
    classes=1,
    scales=SIDES,
)


def covariance() -> Tensor:
    """Return that of the latents, of variance 1 and alike where they are near, [64, 64]."""
    place = LAYOUT.coordinates()[LAYOUT.span(2), 2:].double()
    return torch.exp(-torch.cdist(place, place) / 6)


def training_pairs(config: MultistageConfig) -> tuple[Tensor, Tensor]:
    """Return starts and ends as linear maps of independent normal numbers, [148, N] each.

    The numbers are the 64 that latents are made of and the N = 84 of the white noise.
    """
    root = torch.linalg.cholesky(covariance())
    latents = torch.cat([root.T, torch.zeros(84, 64).double()]).reshape(148, 1, 8, 8)
    white = torch.cat([torch.zeros(64, 84), torch.eye(84)]).double().unsqueeze(-1)
    clean = as_tokens(latents, LAYOUT).values
    assert clean is not None
    start, end = ends(clean, noise_along(white, LAYOUT, config.gamma), LAYOUT, config)
    return start[..., 0], end[..., 0]


class Best(nn.Module):
    """The best velocity.

    Args:
        config: of the stages.
        reads: whether it knows the ends of the stages before.
    """

    def __init__(self, config: MultistageConfig, reads: bool) -> None:
        super().__init__()
        self.table, self.reads = stages(config), reads
        self.start, self.end = training_pairs(config)

    def forward(self, noisy: Tensor, told: Tensor, values: Tensor, places: TokenPlaces) -> Tensor:
        """Return velocities [1, n, COUNT] of `noisy`; `values` are the row's, [1, n, N COUNT]."""
        index = int(places.segment()[0, 0])
        span, (last, first) = LAYOUT.span(index), self.table[index].told
        r = float((told[0, 0].double() - last) / (first - last))
        start, end = self.start[:, span], self.end[:, span]
        read = self.end[:, : span.start if self.reads else 0]
        known = torch.cat([r * start + (1 - r) * end, read], dim=1)
        # of gamma 1 / 3, what is known of a start is known twice: the matrix is singular
        weights = torch.linalg.pinv(known.T @ known, rtol=1e-9, hermitian=True) @ known.T
        given = torch.cat([noisy[0], values[0, 0].unflatten(0, (-1, COUNT))[: read.shape[1]]])
        return ((start - end).T @ weights.T @ given).unsqueeze(0)


class Told(ECAR):
    """What it draws from are the row's values, as they are."""

    def forward(self, packed: Packed, memory: Memory) -> Tensor:
        assert packed.tokens.values is not None
        known = packed.tokens.values.flatten(1).unsqueeze(1)
        return packed.speaking(known.expand(-1, packed.place.shape[1], -1))


def spread(config: ECARConfig, reads: bool = True) -> float:
    """Return the variance of pictures drawn by the loop; that of the latents is 1."""
    torch.manual_seed(0)
    model = Told(config).double().eval()
    model.head.network = Best(config.multistage, reads)
    blank = empty(LAYOUT, width=COUNT, dtype=torch.float64)
    rows = model.begin(blank, {"label": torch.tensor([0])}, Options(), SeededNoise(0))
    with torch.no_grad():
        generate(model, rows)
    assert rows[0].tokens.values is not None
    return float(rows[0].tokens.values[0, LAYOUT.span(2)].square().mean())


def test_the_best_velocity_keeps_the_spread_of_pictures() -> None:
    """By the default solver, or in small steps of the simplest; with gamma 1 / 3 never.

    There the noise of a jump has no mean in a block, and what the trunk reads gives away the means
    of the start: no velocity can spread them, unless the trunk does not read.
    """
    fine = replace(CONFIG, multistage=MultistageConfig((48, 48, 48)), solver="euler")
    assert spread(fine) == pytest.approx(1, abs=0.1)
    assert spread(CONFIG) == pytest.approx(1, abs=0.05)
    for config in (fine, CONFIG):
        tied = replace(config, multistage=replace(config.multistage, gamma=1 / 3))
        assert spread(tied) < 0.5
        assert spread(tied, reads=False) == pytest.approx(1, abs=0.1)
