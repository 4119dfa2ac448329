"""A flow in stages: the jump restores white noise, and exact velocities walk from end to end."""

from __future__ import annotations

import math
from itertools import pairwise

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.heads.multistage import (
    MultistageConfig,
    MultistagePath,
    block_noise,
    ends,
    enlarged,
    noise_along,
    parents,
    ratios,
    stages,
)
from limner.tokenizers.latent_pyramids import as_tokens

LAYOUT = pyramid(((2, 3), (4, 6), (8, 12)), kind="values")


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("gamma", [1 / 3, 0.2, 0.05])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_jump_restores_white_noise_of_the_stages_level(gamma: float, shift: float) -> None:
    table = stages(MultistageConfig(gamma=gamma, shift=shift))
    within = torch.eye(4).double() * (1 + gamma) - gamma
    for before, stage in pairwise(table):
        assert stage.keep * (1 - before.end) == pytest.approx(1 - stage.start, abs=1e-6)
        carried = (stage.keep * before.end) ** 2 * torch.ones(4, 4).double()
        white = stage.start**2 * torch.eye(4).double()
        torch.testing.assert_close(carried + stage.add**2 * within, white, atol=1e-6, rtol=0)
        assert float(carried[0, 1]) > 1e-3  # without it, neighbours are alike
    assert table[0].start == 1.0 and table[-1].end == 0.0


def test_block_noise_has_the_covariance_and_stays_in_its_block() -> None:
    white = torch.randn(20_000, 1, 4, 4, generator=rng()).double()
    made = block_noise(white, 0.25)
    block = made[:, 0, :2, :2].flatten(1)
    wanted = torch.eye(4).double() * 1.25 - 0.25
    assert (torch.cov(block.T) - wanted).abs().max() < 0.05
    assert torch.corrcoef(torch.stack([made[:, 0, 0, 0], made[:, 0, 2, 2]]))[0, 1].abs() < 0.05
    assert block_noise(white, 1 / 3)[0, 0, :2, :2].sum().abs() < 1e-6


@pytest.mark.parametrize("gamma", [1 / 3, 0.2, 0.05])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_a_jump_leads_from_where_training_ends_to_where_it_starts(
    gamma: float, shift: float
) -> None:
    """Picture by picture, with the same noise: training and drawing agree on all stages at once."""
    config = MultistageConfig(gamma=gamma, shift=shift)
    clean = as_tokens(torch.randn(2, 3, 8, 12, generator=rng()), LAYOUT).values
    assert clean is not None
    white = torch.randn(clean.shape, generator=rng(1))
    start, end = ends(clean, noise_along(white, LAYOUT, gamma), LAYOUT, config)
    for index in (1, 2):
        stage, span = stages(config)[index], LAYOUT.span(index)
        maps = white[:, span].transpose(1, 2).unflatten(2, LAYOUT.segments[index].size[1:])
        added = block_noise(maps, gamma).flatten(2).transpose(1, 2)
        jumped = stage.keep * end[:, parents(LAYOUT)[span]] + stage.add * added
        torch.testing.assert_close(jumped, start[:, span], atol=1e-5, rtol=0)


@pytest.mark.parametrize("gamma", [1 / 3, 0.2, 0.05])
def test_noise_is_white_in_every_stage_and_tied_to_the_stage_before(gamma: float) -> None:
    """Exactly: the noise is a linear map of white noise, its covariance that of unit vectors."""
    units = torch.eye(len(LAYOUT)).double().unsqueeze(-1)
    made = noise_along(units, LAYOUT, gamma)[..., 0]
    spread = made.T @ made
    for index in range(3):
        span = LAYOUT.span(index)
        white = torch.eye(span.stop - span.start).double()
        torch.testing.assert_close(spread[span, span], white, atol=1e-12, rtol=0)
        if index:
            before = LAYOUT.span(index - 1)
            child = parents(LAYOUT)[span, None] == torch.arange(before.start, before.stop)
            tied = math.sqrt(gamma / (1 + gamma)) * child.double()
            torch.testing.assert_close(spread[span, before], tied, atol=1e-12, rtol=0)


def test_parents_are_the_places_that_enlarging_repeats() -> None:
    maps = torch.randn(1, 2, 8, 12, generator=rng())
    values = as_tokens(maps, LAYOUT).values
    assert values is not None
    for index in (1, 2):
        size = LAYOUT.segments[index - 1].size[1:]
        before = values[:, LAYOUT.span(index - 1)].transpose(1, 2).unflatten(2, size)
        wanted = enlarged(before).flatten(2).transpose(1, 2)
        assert torch.equal(values[:, parents(LAYOUT)[LAYOUT.span(index)]], wanted)


def test_one_exact_step_a_stage_ends_where_training_says() -> None:
    config = MultistageConfig(steps=(1, 1, 1))
    clean = as_tokens(torch.randn(2, 3, 8, 12, generator=rng()), LAYOUT).values
    assert clean is not None
    white = torch.randn(clean.shape, generator=rng(1))
    noise = noise_along(white, LAYOUT, config.gamma)
    start, end = ends(clean, noise, LAYOUT, config)
    for index in range(3):
        span, times = LAYOUT.span(index), MultistagePath(config).stage_walk(index, 1).times
        assert times.tolist() == [1.0, 0.0]
        walked = start[:, span] - (start - end)[:, span]
        torch.testing.assert_close(walked, end[:, span])
    torch.testing.assert_close(end[:, LAYOUT.span(2)], clean[:, LAYOUT.span(2)])
    torch.testing.assert_close(start[:, LAYOUT.span(0)], noise[:, LAYOUT.span(0)])


def test_the_clock_runs_through_all_stages() -> None:
    table = stages(MultistageConfig())
    assert table[0].told[1] == 1000 and table[-1].told[0] == 1
    assert [stage.told[0] for stage in table[:-1]] == [stage.told[1] for stage in table[1:]]


def test_ratios_are_rounded_towards_noise() -> None:
    found = ratios(torch.tensor([0.0, 0.1239, 0.9999]), 1000)
    torch.testing.assert_close(found, torch.tensor([1.0, 0.877, 0.001]))


@pytest.mark.parametrize(
    ("fields", "named"),
    [
        ({"steps": (1, 2)}, "ranges"),
        ({"steps": (1, 0, 1)}, "steps"),
        ({"ranges": (0.0, 0.7, 0.3, 1.0)}, "ranges"),
        ({"gamma": 0.5}, "gamma=0.5"),
        ({"shift": 0.0}, "shift"),
    ],
)
def test_impossible_stages_are_refused(fields: dict[str, object], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        MultistageConfig(**fields)  # type: ignore[arg-type]
