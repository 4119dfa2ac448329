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
WIDTH, PICTURES = 16, 5
ROWS = 600


@dataclass(frozen=True, eq=False)
class Rows:
    """Rows of held-out pictures with their noise.

    Args:
        clean: float [R, S, N, D].
        others: rows whose pictures but the last are of another class.
        labels: of the last pictures.
        time: float [R, S], falling.
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


@pytest.fixture(scope="module")
def model(data: Lessons) -> ARFlow:
    torch.manual_seed(0)
    size = {"token_width": WIDTH, "channels": WIDTH, "classes": len(CLASSES)}
    made = ARFlow(ARFlowConfig(StackConfig(96, 4, 4), **size, sequence=PICTURES, steps=20))

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(120, rng)
        return made.loss(tokens, {"label": labels}, rng).total

    learn(made, loss, 600)
    return made


@pytest.fixture(scope="module")
def rows(data: Lessons) -> Rows:
    rng = torch.Generator().manual_seed(0)
    values, kinds = data.held_out, data.held_out_labels
    by_class = [values[kinds == kind] for kind in range(len(CLASSES))]

    def some(kind: int) -> Tensor:
        return by_class[kind][torch.randint(len(by_class[kind]), (PICTURES,), generator=rng)]

    labels = torch.randint(len(CLASSES), (ROWS,), generator=rng)
    away = 1 + torch.randint(len(CLASSES) - 1, (ROWS,), generator=rng)
    clean = torch.stack([some(kind) for kind in labels.tolist()])
    others = torch.stack([some(kind) for kind in ((labels + away) % len(CLASSES)).tolist()])
    others[:, -1] = clean[:, -1]
    time = torch.rand(ROWS, PICTURES, generator=rng).sort(1, descending=True).values
    return Rows(clean, others, labels, time, torch.randn(clean.shape, generator=rng))


def errors(data: Lessons, model: ARFlow, rows: Rows, clean: Tensor, labels: Tensor) -> Tensor:
    """Return the mean squared error of the velocities of each row at each position, [R, S]."""
    told = model.teach(data.layout, clean, {"label": labels}, rows.time, rows.noise)
    return (told.view_as(clean) - (rows.noise - clean)).square().mean((2, 3))


def test_the_noisiest_picture_is_told_as_without_a_state(
    data: Lessons, model: ARFlow, rows: Rows
) -> None:
    in_row = errors(data, model, rows, rows.clean, rows.labels).mean(0)
    alone = model.teach(
        data.layout, rows.clean[:, :1], {"label": rows.labels}, rows.time[:, :1], rows.noise[:, :1]
    ).view_as(rows.clean[:, :1])
    target = (rows.noise - rows.clean)[:, :1]
    torch.testing.assert_close((alone - target).square().mean(), in_row[0], rtol=1e-5, atol=1e-5)
    still = (rows.noise - rows.clean).square().mean((0, 2, 3))
    assert bool((in_row < 0.8 * still).all())  # it has learned something


@pytest.mark.parametrize("told", ["their class", "nothing"])
def test_pictures_of_the_same_class_before_it_help(
    data: Lessons, model: ARFlow, rows: Rows, told: str
) -> None:
    """By little, but not by chance: by half a percent where the class is told, else by one."""
    labels = rows.labels
    if told == "nothing":
        labels = model.condition.null({"label": labels})["label"]
    same = errors(data, model, rows, rows.clean, labels)[:, -1]
    other = errors(data, model, rows, rows.others, labels)[:, -1]
    gained = other - same  # at the same picture, time and noise
    assert float(gained.mean()) > 3 * float(gained.std()) / ROWS**0.5
