"""The classifier recognises classes of real pictures, and repeats itself to the bit."""

from __future__ import annotations

import pytest
import torch

from limner.core.errors import ConfigError
from limner.data import PictureSet, load_pictures
from limner.evaluation.classifier import train_classifier


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_classes() -> PictureSet:
    return load_pictures("twemoji", 16, ["Flags", "Smileys & Emotion"])


def test_it_recognises_flags_and_smileys() -> None:
    pictures = two_classes()
    classifier = train_classifier(pictures, rng(), steps=15)
    _, test = pictures.split(0.1)
    majority = float(test.labels.bincount().max()) / len(test)
    assert classifier.held_out_accuracy > majority + 0.15
    assert classifier.agreement(test.to_float(), test.labels) == classifier.held_out_accuracy
    assert classifier.predict(torch.zeros(0, 3, 16, 16)).shape == (0,)


def test_steps_repeat_themselves_and_leave_the_global_state_alone() -> None:
    pictures = two_classes()
    before = torch.random.get_rng_state()
    first, second = (train_classifier(pictures, rng(), steps=2) for _ in range(2))
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first.output.weight, second.output.weight)


def test_one_budget_is_given() -> None:
    with pytest.raises(ConfigError, match="one of the two"):
        train_classifier(two_classes(), rng(), steps=2, seconds=3)


@pytest.mark.slow
def test_it_recognises_all_packaged_classes() -> None:
    pictures = load_pictures("twemoji", 32)
    classifier = train_classifier(pictures, rng(), steps=250)
    assert classifier.held_out_accuracy > 0.45  # the largest class: 0.19
