"""The losses of a tokenizer and of its discriminator."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from limner.layers.discriminator import ActNorm, DiscriminatorConfig, PatchDiscriminator
from limner.layers.perceptual import LPIPS
from limner.tokenizers.objective import Objective, ObjectiveConfig

SMALL = DiscriminatorConfig(channels=4, depth=2)


def players(**fields: float) -> tuple[Objective, Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    config = ObjectiveConfig(discriminator=SMALL, start=10, **fields)  # type: ignore[arg-type]
    pictures, features = torch.rand(2, 3, 16, 16) * 2 - 1, torch.randn(2, 5, 16, 16)
    last = torch.randn(3, 5, 1, 1, requires_grad=True)
    return Objective(config, LPIPS((4, 4, 4, 4, 4))).eval(), pictures, features, last


def test_both_losses_move_the_last_layer_equally() -> None:
    objective, pictures, features, last = players(adversarial=1.0, perceptual=0.0)
    with torch.no_grad():
        for parameter in objective.discriminator.parameters():
            parameter *= 10  # so that the guard against tiny gradients does not matter
    shown = torch.conv2d(features, last)
    loss = objective.autoencoder_loss(pictures, shown, torch.zeros(()), last, step=10)
    error = (pictures - shown).abs().mean()
    (by_error,) = torch.autograd.grad(error, last, retain_graph=True)
    (by_both,) = torch.autograd.grad(loss.total, last)
    adversarial = by_both - by_error
    assert float(adversarial.norm() / by_error.norm()) == pytest.approx(1, abs=0.05)


def test_the_discriminator_counts_from_its_step() -> None:
    objective, pictures, features, last = players()
    shown = torch.conv2d(features, last)
    early, late = (
        objective.autoencoder_loss(pictures, shown, torch.tensor(2.0), last, step)
        for step in (9, 10)
    )
    expected = early.parts["reconstruction"] + 2.0
    torch.testing.assert_close(early.total.detach(), expected)
    pull = early.parts["adversarial_weight"] * early.parts["adversarial"]
    torch.testing.assert_close(late.total.detach(), expected + pull)
    assert objective.discriminator_loss(pictures, shown, 9) == 0
    assert objective.discriminator_loss(pictures, shown, 10) > 0


def test_without_gradients_there_is_no_adversarial_weight() -> None:
    objective, pictures, features, last = players()
    with torch.no_grad():
        shown = torch.conv2d(features, last)
        loss = objective.autoencoder_loss(pictures, shown, torch.zeros(()), last, step=10)
    assert loss.parts["adversarial_weight"] == 0


def test_the_discriminator_does_not_move_the_autoencoder() -> None:
    objective, pictures, features, last = players()
    objective.discriminator_loss(pictures, torch.conv2d(features, last), 10).backward()
    assert last.grad is None
    assert all(p.grad is not None for p in objective.discriminator.parameters())


def test_lpips_is_a_distance() -> None:
    objective, pictures, _, _ = players()
    assert (objective.distances(pictures, pictures) == 0).all()
    near, far = pictures + 0.01 * torch.randn_like(pictures), torch.randn_like(pictures)
    assert (objective.distances(pictures, near) < objective.distances(pictures, far)).all()


def test_published_discriminator_size() -> None:
    discriminator = PatchDiscriminator(DiscriminatorConfig())
    assert sum(p.numel() for p in discriminator.parameters()) == 2_765_633
    with torch.no_grad():
        assert discriminator.eval()(torch.zeros(1, 3, 64, 64)).shape == (1, 1, 6, 6)


def test_actnorm_starts_from_its_first_batch_in_training_only() -> None:
    norm = ActNorm(3)
    first = 5 + 2 * torch.randn(4, 3, 8, 8)
    assert torch.equal(norm.eval()(first), first)
    out = norm.train()(first)
    torch.testing.assert_close(out.mean(dim=(0, 2, 3)), torch.zeros(3), atol=1e-5, rtol=0)
    torch.testing.assert_close(out.std(dim=(0, 2, 3)), torch.ones(3), atol=1e-4, rtol=0)
    scale = norm.scale.detach().clone()
    norm(10 * first)
    assert torch.equal(norm.scale, scale)
