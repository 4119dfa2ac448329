"""A small ARFlow on real pictures of a few classes: pictures before it help, of its own class."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.layers.vision_transformer import StackConfig
from limner.models.arflow import ARFlow, ARFlowConfig
from tests.learning.lessons import Lessons, latents, learn

pytestmark = pytest.mark.slow

CLASSES = ("Smileys & Emotion", "Flags", "Symbols")
# Four numbers a place, as published. Which of three classes it is says little, however large a
# picture: of sixteen whitened numbers a place, most are details that no class shares.
WIDTH, PICTURES = 4, 5
ROWS = 1000
SEED = 0


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of held-out pictures with their noise, none of them twice in a row.

    Args:
        clean: float [R, S, N, D].
        others: of another class, float [R, S, N, D].
        labels: of the clean ones.
        time: float [R, S], falling, drawn as in training.
        noise: float [R, S, N, D].
    """

    clean: Tensor
    others: Tensor
    labels: Tensor
    time: Tensor
    noise: Tensor


@pytest.fixture(scope="module")
def data() -> Lessons:
    return latents(8, WIDTH, CLASSES)


def taught(data: Lessons, stack: StackConfig, updates: int, dropout: float) -> ARFlow:
    """Return a network that is told the class of all rows but a share."""
    torch.manual_seed(SEED)
    config = ARFlowConfig(
        stack, WIDTH, WIDTH, classes=len(CLASSES), sequence=PICTURES, steps=20,
        condition_dropout=dropout,
    )  # fmt: skip
    made = ARFlow(config)

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(120, rng)
        return made.loss(tokens, {"label": labels}, rng).total

    learn(made, loss, updates, seed=SEED)
    return made


@pytest.fixture(scope="module")
def told(data: Lessons) -> ARFlow:
    return taught(data, StackConfig(64, 3, 4), 600, 0.1)


@pytest.fixture(scope="module")
def untold(data: Lessons) -> ARFlow:
    """Knows of a class only what the pictures before show."""
    return taught(data, StackConfig(96, 4, 4), 800, 1.0)


@pytest.fixture(scope="module")
def rows(data: Lessons) -> Rows:
    rng = torch.Generator().manual_seed(SEED)
    values, kinds = data.held_out, data.held_out_labels
    by_class = [values[kinds == kind] for kind in range(len(CLASSES))]

    def some(kinds: Tensor) -> Tensor:
        drawn = [
            by_class[kind][torch.randperm(len(by_class[kind]), generator=rng)[:PICTURES]]
            for kind in kinds.tolist()
        ]
        return torch.stack(drawn)

    labels = torch.randint(len(CLASSES), (ROWS,), generator=rng)
    away = 1 + torch.randint(len(CLASSES) - 1, (ROWS,), generator=rng)
    clean, others = some(labels), some((labels + away) % len(CLASSES))
    time = torch.rand(ROWS, PICTURES, generator=rng).sort(1, descending=True).values
    return Rows(clean, others, labels, time, torch.randn(clean.shape, generator=rng))


def errors(data: Lessons, model: ARFlow, rows: Rows, clean: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error of the velocities of each row at each position, [R, S].

    Args:
        clean: the first pictures of the rows, or others in their place.
    """
    count = clean.shape[1]
    noise = rows.noise[:, :count]
    out = model.teach(data.layout, clean, {"label": labels}, rows.time[:, :count], noise)
    return (out.view_as(clean) - (noise - clean)).square().mean((2, 3))


def after_others(data: Lessons, model: ARFlow, rows: Rows, labels: Tensor) -> Tensor:
    """Return the errors at positions 2 to S after pictures of another class, [R, S - 1]."""
    found = []
    for position in range(1, PICTURES):
        mixed = torch.cat([rows.others[:, :position], rows.clean[:, position : position + 1]], 1)
        found.append(errors(data, model, rows, mixed, labels)[:, -1])
    return torch.stack(found, dim=1)


def gains(data: Lessons, model: ARFlow, rows: Rows, labels: Tensor) -> tuple[float, float]:
    """Return how much of the error pictures of the same class spare, and its standard error.

    Over all positions but the first, at the same pictures, times and noise.
    """
    same = errors(data, model, rows, rows.clean, labels)[:, 1:]
    gained = (after_others(data, model, rows, labels) - same).mean(1) / same.mean()
    return float(gained.mean()), float(gained.std()) / ROWS**0.5


def test_the_noisiest_picture_is_told_as_without_a_state(
    data: Lessons, told: ARFlow, rows: Rows
) -> None:
    in_row = errors(data, told, rows, rows.clean, rows.labels).mean(0)
    alone = errors(data, told, rows, rows.clean[:, :1], rows.labels).mean()
    torch.testing.assert_close(alone, in_row[0], rtol=1e-5, atol=1e-5)
    still = (rows.noise - rows.clean).square().mean((0, 2, 3))
    assert bool((in_row < 0.8 * still).all())  # it has learned something


def test_pictures_of_the_same_class_before_it_help(
    data: Lessons, untold: ARFlow, rows: Rows
) -> None:
    """By more than one percent of the error."""
    labels = untold.condition.null({"label": rows.labels})["label"]
    gain, chance = gains(data, untold, rows, labels)
    assert gain > max(0.01, 3 * chance)


def test_they_help_even_where_the_class_is_told(data: Lessons, told: ARFlow, rows: Rows) -> None:
    """Not by chance, though a label leaves them little to tell."""
    gain, chance = gains(data, told, rows, rows.labels)
    assert gain > 3 * chance
