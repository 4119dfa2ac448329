"""A small MAR on the latents of a small KL autoencoder of real pictures, and its annealing."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor, nn

from limner.core.memory import NoMemory
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.heads.annealing import StepAnnealing
from limner.heads.diffusion import DiffusionConfig, DiffusionHead
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MAR, MARConfig
from limner.orders.masking import random_mask
from limner.tokenizers.kl_autoencoder import KLAutoencoder, KLAutoencoderConfig
from tests.learning.lessons import Lessons, energy_distance, learn, lessons, picture_sets

pytestmark = pytest.mark.slow

LATENT = 8


def autoencoder() -> KLAutoencoder:
    """Return a small KL autoencoder that has learned from the packaged pictures: 4 x 4 latents."""
    torch.manual_seed(0)
    shape = ConvolutionConfig(16, (1, 1, 2, 2), 1, (), (), middle_attention=False, groups=8)
    made = KLAutoencoder(KLAutoencoderConfig(shape, LATENT))
    pictures = picture_sets()[0].to_float()

    def loss(rng: torch.Generator) -> Tensor:
        some = pictures[torch.randint(len(pictures), (32,), generator=rng)]
        shown = made.reconstruct(some, rng)
        return (shown.pictures - some).square().mean() + 1e-3 * shown.losses["kl"]

    learn(made, loss, 250, 3e-3)
    made.calibrate(pictures[:256])
    return made


@dataclass(frozen=True, eq=False)
class Taught:
    """What the tests look at.

    Args:
        data: the latents.
        model: that has learned from them.
        blind: a head that has learned the same tokens from no output of a network.
    """

    data: Lessons
    model: MAR
    blind: DiffusionHead


@pytest.fixture(scope="module")
def taught() -> Taught:
    data = lessons(autoencoder().encode)
    head = DiffusionConfig(96, 2, "ddim50", repeats=2)
    stack, count = StackConfig(96, 2, 4), len(data.layout)
    config = MARConfig(
        stack, stack, head, count, LATENT, len(data.classes), buffer=4, steps=count,
        attention_dropout=0.0, dropout=0.0,
    )  # fmt: skip
    torch.manual_seed(0)
    model, blind = MAR(config), DiffusionHead(LATENT, 96, head)

    def loss(rng: torch.Generator) -> Tensor:
        tokens, labels = data.batch(64, rng)
        return model.loss(tokens, {"label": labels}, rng).total

    def loss_of_nothing(rng: torch.Generator) -> Tensor:
        tokens, _ = data.batch(64, rng)
        assert tokens.values is not None
        return blind.loss(torch.zeros(64, count, 96), tokens.values, rng).total

    learn(model, loss, 700)
    learn(blind, loss_of_nothing, 700)
    return Taught(data, model, blind)


def errors(taught: Taught, labels: Tensor) -> dict[str, float]:
    """Return squared errors of the noise in masked tokens of held-out pictures, at equal draws."""
    tokens, _ = taught.data.examined()
    assert tokens.values is not None
    rng = torch.Generator().manual_seed(0)
    masked = random_mask(*tokens.known.shape, 0.7, rng, spread_out=True)
    told = taught.model(taught.model.masked(tokens, {"label": labels}, masked), NoMemory())
    time = torch.randint(1000, (8 * masked.numel(),), generator=rng)
    noise = torch.randn(len(time), LATENT, generator=rng)
    share = masked.flatten().repeat(8).float() / (8 * masked.sum())
    heads: dict[str, tuple[DiffusionHead, Tensor]] = {
        "told": (taught.model.head, told),
        "zeroed": (taught.model.head, torch.zeros_like(told)),
        "blind": (taught.blind, torch.zeros_like(told)),
    }
    return {
        name: float((head.terms(outputs, tokens.values, time, noise)[0] * share).sum())
        for name, (head, outputs) in heads.items()
    }


def test_what_the_network_says_helps_to_denoise_and_so_does_the_class(taught: Taught) -> None:
    _, labels = taught.data.examined()
    right = errors(taught, labels)
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(0))
    wrong = errors(taught, labels[order])
    assert right["told"] < 0.9 * right["blind"] and right["told"] < 0.9 * right["zeroed"]
    assert right["told"] < wrong["told"] and right["blind"] == wrong["blind"]


def drawn(taught: Taught, annealing: StepAnnealing, count: int) -> tuple[Tensor, int]:
    """Return latents float [count, N D] of classes as frequent as real ones, and head's calls."""
    model, data, calls = taught.model, taught.data, [0]

    def heard(module: nn.Module, inputs: object, output: object) -> None:
        calls[0] += 1

    hook, rows = model.head.denoiser.register_forward_hook(heard), []
    for seed in range(count):
        label = data.labels[seed * len(data.labels) // count].reshape(1)
        blank = empty(data.layout, width=LATENT)
        options = Options(annealing=annealing)
        rows += model.begin(blank, {"label": label}, options, SeededNoise(seed))
    values = [row.tokens.values for row in generate(model, rows)]
    hook.remove()
    return torch.cat([each for each in values if each is not None]).flatten(1), calls[0]


def test_annealed_steps_are_worth_as_many_fixed_ones(taught: Taught) -> None:
    rng = torch.Generator().manual_seed(0)
    real = taught.data.contents[torch.randperm(len(taught.data.contents), generator=rng)[:512]]
    annealed, calls = drawn(taught, StepAnnealing(35, 4), 512)  # 298 calls of the head, not 304
    fixed, as_many = drawn(taught, StepAnnealing(19, 19), 512)
    assert abs(calls - as_many) <= 0.02 * as_many
    apart = [energy_distance(values, real.flatten(1)) for values in (annealed, fixed)]
    assert apart[0] < 1.05 * apart[1]
