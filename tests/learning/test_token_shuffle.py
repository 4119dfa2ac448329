"""A small Token-Shuffle beside one whose decoder reads single codes, on codes of real pictures."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from limner.core.request import Request
from limner.core.row import Condition
from limner.models.token_shuffle import TokenShuffleConfig, TokenShuffleDecoder
from tests.learning.lessons import Lessons, codes, learn

pytestmark = pytest.mark.slow

CODES, UPDATES = 256, 400


@dataclass(frozen=True, eq=False)
class Taught:
    """Three networks that learned from the same pictures for as many updates.

    Args:
        data: the codes.
        single: every code is a token of the decoder.
        windows: 2 x 2 codes are.
        deaf: the same, but what is read of a window is always zero.
    """

    data: Lessons
    single: TokenShuffleDecoder
    windows: TokenShuffleDecoder
    deaf: TokenShuffleDecoder


def fresh(data: Lessons, vectors: Tensor, window: int | None) -> TokenShuffleDecoder:
    torch.manual_seed(0)
    config = TokenShuffleConfig(
        width=96, depth=4, heads=4, key_heads=4, hidden=256, codebook_size=CODES, window=window,
        text_length=12,
    )  # fmt: skip
    model = TokenShuffleDecoder(config)
    model.start_from_codes(vectors, torch.Generator().manual_seed(0))
    return model


def asked(data: Lessons, model: TokenShuffleDecoder, labels: Tensor) -> Condition:
    """Return the condition of the first words of classes."""
    words = [data.classes[label].split()[0] for label in labels.tolist()]
    return model.condition.ask(Request(len(words), prompts=words))


def loss_of(data: Lessons, model: TokenShuffleDecoder, size: int, rng: torch.Generator) -> Tensor:
    tokens, labels = data.batch(size, rng)
    return model.loss(tokens, asked(data, model, labels), rng).total


@pytest.fixture(scope="module")
def taught() -> Taught:
    data, tokenizer = codes(4, 24, CODES)
    vectors = tokenizer.code_vectors()
    single, windows, deaf = (fresh(data, vectors, window) for window in (None, 2, 2))
    assert deaf.shuffle is not None
    torch.nn.init.zeros_(deaf.shuffle.compress.weight).requires_grad_(False)
    for model in (single, windows, deaf):
        learn(model, lambda rng, m=model: loss_of(data, m, 32, rng), UPDATES, 3e-3)  # type: ignore[misc]
    return Taught(data, single, windows, deaf)


def held_out_loss(taught: Taught, model: TokenShuffleDecoder) -> float:
    """Return the loss per code."""
    tokens, labels = taught.data.examined()
    return float(model.loss(tokens, asked(taught.data, model, labels)).total)


def test_windows_are_read(taught: Taught) -> None:
    assert held_out_loss(taught, taught.windows) < 0.9 * held_out_loss(taught, taught.deaf)


def test_single_codes_learn_more_in_as_many_updates(taught: Taught) -> None:
    """Codes of a window are told independently, which costs more here than a tenth of the loss."""
    frequency = torch.bincount(taught.data.contents.flatten(), minlength=CODES).double()
    frequency /= frequency.sum()
    unigram = -float(torch.special.xlogy(frequency, frequency).sum())
    windows, single = (held_out_loss(taught, model) for model in (taught.windows, taught.single))
    assert single < windows < 0.8 * unigram
