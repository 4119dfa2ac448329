"""A small ACDiT on real pictures: what follows is told by the clean blocks before it."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.core.layout import grid
from limner.core.tokens import from_values
from limner.heads.denoising import DenoisingConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiT, ACDiTConfig
from tests.learning.lessons import latents, learn

LAYOUT, WIDTH = grid(4, 4, kind="values"), 16
REPEATS = 8


@pytest.mark.slow
def test_later_blocks_of_real_pictures_follow_from_earlier_ones() -> None:
    data = latents(8, WIDTH)
    torch.manual_seed(0)
    config = ACDiTConfig(
        StackConfig(128, 3, 2), DenoisingConfig(5), WIDTH, block=4, classes=len(data.classes)
    )
    model, block = ACDiT(config), config.blocks(LAYOUT).step

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(64, rng)
        return model.loss(tokens, {"label": labels}, rng).total

    learn(model, loss, 600, 1.5e-3)
    rng = torch.Generator().manual_seed(0)
    clean = data.held_out.repeat(REPEATS, 1, 1)
    labels = {"label": data.held_out_labels.repeat(REPEATS)}
    time = torch.randint(1000, (len(clean), 4), generator=rng)[:, block]
    noise = torch.randn(clean.shape, generator=rng)
    noisy = model.head.tables.add_noise(clean, time, noise)
    errors = []
    for context in (clean, clean.roll(1, 0)):
        told = model.teach(from_values(LAYOUT, context), labels, noisy, time)
        errors.append((told - noise).square().mean(-1))
    true, swapped = (float(error[:, block > 0].mean()) for error in errors)
    assert true < 0.95 * swapped
    assert torch.equal(errors[0][:, block == 0], errors[1][:, block == 0])  # nothing is before it
