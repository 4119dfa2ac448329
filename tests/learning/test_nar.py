"""A small NAR beside a raster model of the same size on codes of real pictures."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.nar import NAR, NARConfig
from limner.orders.neighbours import shares
from tests.learning.lessons import Lessons, codes, learn

pytestmark = pytest.mark.slow

SIZE = {"width": 96, "heads": 4, "codebook_size": 256, "multiple_of": 32, "dropout": 0.0}


@pytest.fixture(scope="module")
def models() -> tuple[Lessons, LlamaGen, NAR]:
    """8 x 8 codes; both networks have four blocks and learn for as many steps."""
    data, tokenizer = codes(4, 24, 256)
    vectors = tokenizer.code_vectors()
    raster = LlamaGenConfig(depth=4, classes=len(data.classes), **SIZE)  # type: ignore[arg-type]
    diagonals = NARConfig(depth=3, classes=len(data.classes), **SIZE)  # type: ignore[arg-type]
    made = []
    for kind, config in ((LlamaGen, raster), (NAR, diagonals)):
        torch.manual_seed(0)
        model = kind(config)  # type: ignore[arg-type]
        model.start_from_codes(vectors, torch.Generator().manual_seed(0))

        def loss(rng: torch.Generator, model: LlamaGen = model) -> Tensor:
            tokens, labels = data.batch(32, rng)
            return model.loss(tokens, {"label": labels}, rng).total

        learn(model, loss, 500, 3e-3)
        made.append(model)
    assert isinstance(made[1], NAR)
    return data, made[0], made[1]


def held_out_loss(data: Lessons, model: LlamaGen) -> float:
    tokens, labels = data.examined()
    return float(model.loss(tokens, {"label": labels}).total)


def passes(data: Lessons, model: LlamaGen) -> int:
    """Return how often the network runs for a picture."""
    seen: list[int] = []
    hook = model.register_forward_hook(lambda *_: seen.append(1))
    label = {"label": torch.tensor([0])}
    generate(model, model.begin(empty(data.layout, codes=1), label, Options(), SeededNoise(0)))
    hook.remove()
    return len(seen)


def test_diagonals_are_learned_about_as_well_as_single_codes(
    models: tuple[Lessons, LlamaGen, NAR],
) -> None:
    data, raster, nar = models
    frequency = torch.bincount(data.contents.flatten(), minlength=256) / data.contents.numel()
    unigram = float(-(frequency * frequency.clamp(min=1e-12).log()).sum())
    losses = [held_out_loss(data, model) for model in (raster, nar)]
    assert losses[0] < 0.8 * unigram
    assert losses[1] < 1.1 * losses[0]
    assert (passes(data, raster), passes(data, nar)) == (64, 15)


def test_two_neighbours_tell_more_than_one_of_them(
    models: tuple[Lessons, LlamaGen, NAR],
) -> None:
    data, _, nar = models
    tokens, labels = data.examined()
    assert tokens.ids is not None
    both = (shares(data.layout, 2) == 0.5).all(1)
    both[0] = False  # which the prefix tells
    hidden, weight = nar.mixed(tokens, {"label": labels})
    width = nar.config.width
    parts = [
        functional.linear(hidden[:, both, at], weight[:, at])
        for at in (slice(0, width), slice(width, 2 * width))
    ]
    target = tokens.ids[:, both, 0].flatten()
    mean, *alone = (
        float(functional.cross_entropy(logits.flatten(0, 1), target))
        for logits in (parts[0] + parts[1], 2 * parts[0], 2 * parts[1])
    )
    assert mean < 0.97 * min(alone)
