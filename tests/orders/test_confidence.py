"""Re-masking by confidence, against a plain statement of the rule."""

import math

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.noise import ReplayedNoise
from limner.core.row import Row
from limner.core.tokens import empty
from limner.orders.confidence import ConfidenceOrder, Remasking, purpose


def walk(config, layout, given=(), seed=0):
    """Draw with random log-probabilities; return the step draws and what they were drawn with."""
    rng = torch.Generator().manual_seed(seed)
    count = len(layout)
    noise = {
        purpose(i): torch.randn(count, generator=rng, dtype=torch.float64)
        for i in range(config.steps)
    }
    tokens = empty(layout, codes=1)
    tokens.known[0, list(given)] = True
    row = Row(tokens, ConfidenceOrder(config), ReplayedNoise(noise), {})
    draws, chances = [], []
    while step := row.order.next(row):
        assert step.again == step.index == row.step
        draws.append(step.draw)
        row.tokens.known[0, step.draw] = True
        row.last[step.draw] = step.index
        row.logprob[step.draw] = -5 * torch.rand(len(step.draw), generator=rng)
        chances.append(row.logprob.clone())
        row.step += 1
    return draws, chances, noise


@pytest.mark.parametrize("kind", ["cosine", "linear"])
@pytest.mark.parametrize("given", [(), (0, 3, 7)])
def test_the_least_sure_of_the_last_draw_are_drawn_again(kind, given):
    layout = grid(5, 6)
    config = Remasking(7, kind, (2.0, 0.5), share=1 - len(given) / 30)
    draws, chances, noise = walk(config, layout, given)
    assert len(draws) == 7 and sorted([*draws[0].tolist(), *given]) == list(range(30))
    for index in range(6):
        drawn = set(draws[index].tolist())
        left = (index + 1) / 7
        ratio = math.cos(math.pi * left / 2) if kind == "cosine" else 1 - left
        wanted = max(1, min(len(drawn) - 1, math.floor(30 * config.share * ratio + 1e-6)))
        heat = 2.0 - 1.5 * index / 6
        sure = {t: chances[index][t] + heat * noise[purpose(index)][t] for t in drawn}
        expected = sorted(drawn, key=sure.__getitem__)[:wanted]
        assert sorted(expected) == draws[index + 1].tolist()


def test_one_step_draws_everything_once():
    draws, _, _ = walk(Remasking(1), grid(2, 3))
    assert [draw.tolist() for draw in draws] == [[0, 1, 2, 3, 4, 5]]


def test_bad_settings_are_refused():
    for field, value in (("steps", 0), ("share", 1.5), ("heat", (-1.0, 0.0)), ("schedule", "sine")):
        with pytest.raises(ConfigError, match=field):
            Remasking(**{"steps": 4, field: value})
