"""A small Meissonic on real pictures and the names of their classes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.request import Request
from limner.core.row import Condition, Options
from limner.core.tokens import empty, stack
from limner.decoding import generate
from limner.evaluation.features import load_space
from limner.metrics.kid import squared_mmd
from limner.models.meissonic import Meissonic, MeissonicConfig
from limner.tokenizers.patches import PatchKMeans
from tests.learning.lessons import Lessons, codes, learn

pytestmark = pytest.mark.slow

CODES, DRAWN = 256, 160

Taught = tuple[Lessons, PatchKMeans, Meissonic]


def asked(data: Lessons, model: Meissonic, labels: Tensor) -> Condition:
    """Return the condition of the names of classes."""
    names = [data.classes[label] for label in labels.tolist()]
    return model.condition.ask(Request(len(names), prompts=names))


@pytest.fixture(scope="module")
def taught() -> Taught:
    """8 x 8 codes, two streams of blocks, then one."""
    data, tokenizer = codes(4, 24, CODES)
    torch.manual_seed(0)
    model = Meissonic(
        MeissonicConfig(
            heads=4, head_width=24, joint=1, single=3, axes=(8, 8, 8), codebook_size=CODES, spare=1,
            compresses=False, condition="caption", text_length=4, steps=8, pixels=4,
        )
    )  # fmt: skip
    conditions = asked(data, model, torch.arange(len(data.classes)))

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(32, rng)
        given = {name: value[labels] for name, value in conditions.items()}
        return model.loss(tokens, given, rng).total

    learn(model, loss, 700)
    return data, tokenizer, model


def masked_loss(taught: Taught, labels: Tensor, share: float | None = None) -> float:
    """Return the cross-entropy of masked codes of held-out pictures, at any share that is masked.

    Args:
        share: that is masked; None: any, as in training.
    """
    data, _, model = taught
    tokens, _ = data.examined()
    given = asked(data, model, labels)
    if share is None:
        return float(model.loss(tokens, given).total)
    shares = torch.full((len(tokens),), share)
    places = torch.rand(tokens.known.shape, generator=torch.Generator().manual_seed(0))
    masked = model.masked(places, shares)
    outputs = model(model.taught(tokens, given, masked, shares), NoMemory())
    assert tokens.ids is not None
    return float(model.head.loss(outputs, tokens.ids, None, masked).total)


def test_masked_codes_follow_from_the_others_and_from_the_text(taught: Taught) -> None:
    data = taught[0]
    frequency = torch.bincount(data.contents.flatten(), minlength=CODES) / data.contents.numel()
    unigram = float(-(frequency * frequency.clamp(min=1e-12).log()).sum())
    _, labels = data.examined()
    wrong = labels[torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))]
    assert masked_loss(taught, labels) < 0.85 * unigram
    assert masked_loss(taught, wrong) > masked_loss(taught, labels)
    # where hardly anything is seen, the text is most of what is known
    assert masked_loss(taught, wrong, 0.98) > 1.02 * masked_loss(taught, labels, 0.98)


def levels(pictures: Tensor) -> Tensor:
    """Return pictures in [-1, 1] as uint8."""
    return ((pictures + 1) * 127.5).round().to(torch.uint8)


def drawn(taught: Taught, steps: int) -> Tensor:
    """Return pictures of all classes alike, uint8 [DRAWN, 3, 32, 32]."""
    data, tokenizer, model = taught
    rows = []
    for seed in range(DRAWN):
        given = asked(data, model, torch.tensor([seed % len(data.classes)]))
        blank = empty(data.layout, codes=1)
        rows += model.begin(blank, given, Options(steps=steps), SeededNoise(seed))
    tokens = stack([row.tokens for row in generate(model, rows)])
    return levels(tokenizer.decode(tokens))


def test_eight_steps_draw_better_pictures_than_one(taught: Taught) -> None:
    data, tokenizer, _ = taught
    space = load_space("packaged")
    rng = torch.Generator().manual_seed(0)
    chosen = []
    for seed in range(DRAWN):  # as many of each class, as the tokenizer shows them
        of_class = (data.labels == seed % len(data.classes)).nonzero().squeeze(1)
        chosen.append(of_class[int(torch.randint(len(of_class), (), generator=rng))])
    real = levels(tokenizer.decode(data.tokens(data.contents[torch.stack(chosen)])))
    reference = space.network(real).pooled
    apart = [
        float(squared_mmd(reference, space.network(drawn(taught, steps)).pooled))
        for steps in (8, 1)
    ]
    assert apart[0] < 0.7 * apart[1]
