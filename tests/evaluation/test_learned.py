"""Copies of training pictures are found, and classes that were asked for are recognised."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import Tensor

from limner.data import load_packaged, open_source
from limner.evaluation.asking import as_given
from limner.evaluation.learned import Learned, agreement, copying, small_copies
from limner.evaluation.resampling import Bootstrap
from limner.evaluation.samples import Drawing, SampleSet, draw_samples

from .conftest import Held

CLASSES = ("Flags", "Smileys & Emotion")
BOOTSTRAP = Bootstrap(20)


@pytest.fixture(scope="module")
def learned() -> Learned:
    return Learned(open_source("twemoji", CLASSES), 0.2, classifier_steps=15)


def album(folder: Path, labels: list[int]) -> SampleSet:
    """Samples of a "pipeline" that shows real pictures of the class that is asked for."""
    pictures = load_packaged("twemoji", 16, CLASSES)
    asking = as_given("class", labels, "a list")
    plan = Drawing("a", "w", "float32", asking.rule, asking.digest, 0, 8, (16, 16))

    def draw(classes: list[int], seed: list[int], **settings: object) -> object:
        places = [(pictures.labels == label).nonzero().flatten() for label in classes]
        chosen = torch.stack([place[number] for place, number in zip(places, seed)])
        return SimpleNamespace(pictures=pictures.to_float(chosen))

    return draw_samples(draw, plan, asking, len(labels), folder)  # type: ignore[arg-type]


def test_the_classifier_agrees_where_the_class_is_right(learned: Learned, tmp_path: Path) -> None:
    made = album(tmp_path / "right", [0, 1] * 30)
    pictures = learned.pictures((16, 16))
    found = agreement(made, pictures, learned, BOOTSTRAP)
    assert found.value > 0.75
    assert found.low <= found.value <= found.high
    _, held_out = pictures.split(0.2)
    assert found.real_count == len(held_out)
    assert found.settings["classes"] == 2 and found.settings["steps"] == 15


def test_copies_are_nearer_than_real_pictures_are(learned: Learned, levels: Tensor) -> None:
    pictures = learned.pictures((16, 16))
    train, held_out = pictures.split(0.2)
    copied, shown = copying(Held(train.pixels[:40]), pictures, learned, BOOTSTRAP)
    assert copied["copying_distance"].value == pytest.approx(0, abs=1e-3)
    assert copied["close_copies"].value == 1
    assert torch.equal(shown.drawn, shown.nearest)
    assert shown.distances.tolist() == sorted(shown.distances.tolist())
    honest, _ = copying(Held(held_out.pixels), pictures, learned, BOOTSTRAP)
    for number in honest.values():
        assert number.value == number.real
    assert honest["close_copies"].value == pytest.approx(0.05, abs=0.02)


def test_large_pictures_are_made_small_as_real_ones_are() -> None:
    large, small = (load_packaged("twemoji", side).pixels[:9] for side in (72, 64))
    learned = Learned(open_source("twemoji", ["Flags"]), 0.1)
    assert learned.pictures((72, 72)).pixels.shape[-1] == 64
    assert torch.equal(torch.cat(list(small_copies(Held(large), 64))), small)
