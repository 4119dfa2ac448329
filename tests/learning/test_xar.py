"""A small xAR on real pictures: context counts, and noisy context in training makes it robust."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.layout import grid
from limner.core.tokens import from_values
from limner.heads.flow import FlowConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.xar import XAR, XARConfig
from limner.orders.blocks import NextX
from tests.learning.lessons import Lessons, latents, learn

pytestmark = pytest.mark.slow

LAYOUT, CELL, WIDTH = grid(4, 4, kind="values"), NextX("cell", 2), 16
CELLS = len(CELL.order(LAYOUT))
LAST = CELL.order(LAYOUT).step == CELLS - 1
STEPS, REPEATS = 450, 8


@pytest.fixture(scope="module")
def data() -> Lessons:
    """4 x 4 latents, of 8 x 8 pixels each."""
    return latents(8, WIDTH)


def fresh(data: Lessons) -> XAR:
    torch.manual_seed(0)
    stack, classes = StackConfig(96, 2, 4), len(data.classes)
    size = {"tokens": len(LAYOUT), "token_width": WIDTH, "classes": classes}
    still = {"attention_dropout": 0.0, "dropout": 0.0}
    return XAR(XARConfig(stack, stack, CELL, FlowConfig(10), **size, **still))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def model(data: Lessons) -> XAR:
    """Taught as published: every cell has a noise level of its own."""
    made = fresh(data)

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(64, rng)
        return made.loss(tokens, {"label": labels}, rng).total

    learn(made, loss, STEPS)
    return made


@pytest.fixture(scope="module")
def cleanly(data: Lessons) -> XAR:
    """Taught the last cell under clean ones before it."""
    made = fresh(data)

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(64, rng)
        assert tokens.values is not None
        noise = torch.randn(tokens.values.shape, generator=rng)
        label = made.condition.drop({"label": labels}, 0.1, rng)["label"]
        time = torch.randn(64, generator=rng).sigmoid()
        return error(made, tokens.values, tokens.values, label, time, noise, 0.0)

    learn(made, loss, STEPS)
    return made


def error(
    model: XAR,
    clean: Tensor,
    context: Tensor,
    labels: Tensor,
    time: Tensor,
    noise: Tensor,
    before: float,
) -> Tensor:
    """Return the mean squared error of the last cell's velocities.

    Args:
        clean: float [B, N, D].
        context: the same, or others whose first cells are read instead.
        time: of the last cell, float [B].
        noise: float [B, N, D].
        before: time of the cells before.
    """
    times = torch.full((len(time), CELLS), before)
    times[:, -1] = time
    seen = from_values(LAYOUT, torch.where(LAST[:, None], clean, context))
    told = model.teach(seen, {"label": labels}, times, noise)
    return (told - (noise - clean))[:, LAST].square().mean()


def examined(data: Lessons, model: XAR, before: float = 0.0, swapped: bool = False) -> float:
    """Return the error on held-out pictures, at the same times and noises for everyone.

    Args:
        swapped: the cells before the last are another picture's of the same class.
    """
    rng = torch.Generator().manual_seed(0)
    clean, labels = (each.repeat(REPEATS, *[1] * (each.dim() - 1)) for each in held_out(data))
    time = torch.rand(len(clean), generator=rng)
    noise = torch.randn(clean.shape, generator=rng)
    context = clean
    if swapped:
        order = torch.arange(len(labels))
        for kind in labels.unique():
            same = (labels == kind).nonzero().squeeze(1)
            order[same] = same.roll(1)
        context = clean[order]
    return float(error(model, clean, context, labels, time, noise, before))


def held_out(data: Lessons) -> tuple[Tensor, Tensor]:
    tokens, labels = data.examined()
    assert tokens.values is not None
    return tokens.values, labels


def test_it_learns_and_the_last_cell_follows_from_those_before(data: Lessons, model: XAR) -> None:
    tokens, labels = data.examined()
    parts = model.loss(tokens, {"label": labels}).parts
    assert parts["mse"] < 0.6 * parts["still"]  # a velocity of 0: about 2
    assert examined(data, model) < 0.97 * examined(data, model, swapped=True)


def test_noisy_context_in_training_makes_noise_in_the_context_hurt_less(
    data: Lessons, model: XAR, cleanly: XAR
) -> None:
    rises = [examined(data, each, before=0.3) - examined(data, each) for each in (model, cleanly)]
    assert 0 < rises[0] < 0.5 * rises[1]
