"""What flows over scales learn of real pictures, without a tokenizer: averages of pixels."""

from __future__ import annotations

from dataclasses import replace
from functools import cache

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from limner.core.generator import Generator
from limner.core.head import LossBreakdown
from limner.core.layout import pyramid
from limner.core.noise import SeededNoise
from limner.core.row import Condition, Options
from limner.core.tokens import Tokens, empty
from limner.data import load_packaged
from limner.decoding import generate
from limner.heads.flow import FlowConfig, random_times
from limner.heads.multistage import MultistageConfig
from limner.layers.flow_transformer import FlowTransformerConfig, TokenPlaces
from limner.layers.vision_transformer import StackConfig
from limner.metrics.frechet import fit_gaussian, frechet_distance
from limner.models.ecar import ECAR, ECARConfig
from limner.models.flowar import FlowAR, FlowARConfig
from limner.tokenizers.latent_pyramids import ResampledLatents, as_tokens
from tests.training.learning import learn

pytestmark = pytest.mark.slow

SIDES, STAGES = (1, 2, 4, 8), (2, 4, 8)
VELOCITY = FlowTransformerConfig(64, 2, 32)


@cache
def maps() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Pictures of 8 x 8 pixels whose colours have mean 0 and variance 1, and their classes.

    Those that are learned from, mirrored too, and others.
    """
    train, held_out = load_packaged(size=8).split(0.1)
    seen = train.to_float()
    mean = seen.mean((0, 2, 3), keepdim=True)
    deviation = (seen - mean).square().mean((0, 2, 3), keepdim=True).sqrt()
    learned, other = ((each.to_float() - mean) / deviation for each in (train, held_out))
    return (
        torch.cat([learned, learned.flip(-1)]),
        train.labels.repeat(2),
        other,
        held_out.labels,
    )


def tokens_of(latents: Tensor, sides: tuple[int, ...]) -> Tokens:
    return as_tokens(latents, pyramid(tuple((side, side) for side in sides), kind="values"))


def drawn(model: Generator, sides: tuple[int, ...], count: int) -> Tokens:
    """Return what a model draws, without guidance; as often of each class as there are pictures."""
    layout = pyramid(tuple((side, side) for side in sides), kind="values")
    label, rows = maps()[1], []
    for seed in range(count):
        told = {"label": label[seed * len(label) // count].reshape(1)}
        rows += model.begin(empty(layout, width=3), told, Options(), SeededNoise(seed))
    generate(model, rows)
    values = torch.cat([row.tokens.values for row in rows if row.tokens.values is not None])
    return Tokens(layout, None, values, torch.ones(values.shape[:2], dtype=torch.bool))


def scale_maps(tokens: Tokens, scale: int) -> Tensor:
    """Return one scale as maps, float [B, D, h, w]."""
    assert tokens.values is not None
    values = tokens.values[:, tokens.layout.span(scale)]
    return values.transpose(1, 2).unflatten(2, tokens.layout.segments[scale].size[1:])


def test_flowar_needs_no_tokenizer_and_its_scales_agree() -> None:
    latents, label, other, other_label = maps()
    torch.manual_seed(0)
    config = FlowARConfig(
        64,
        1,
        1,
        heads=2,
        velocity=VELOCITY,
        flow=FlowConfig(16, times="flowar"),
        token_width=3,
        classes=9,
        scales=SIDES,
        dropout=0.0,
        attention_dropout=0.0,
    )
    model = FlowAR(config)
    model.canvas = ResampledLatents()
    train, held_out = tokens_of(latents, SIDES), tokens_of(other, SIDES)
    learn(model, train, {"label": label}, 500)

    assert train.values is not None and held_out.values is not None
    with torch.no_grad():
        loss = float(model.loss(held_out, {"label": other_label}).parts["mse"])
    # of velocities e - x, the best that is said of every token without looking: minus its mean
    constant = 1 + float((held_out.values - held_out.values.mean(0)).square().mean())
    assert loss < 0.7 * constant

    rng = torch.Generator().manual_seed(0)
    places = TokenPlaces(held_out.layout, torch.arange(len(held_out.layout)).unsqueeze(0))
    time = random_times(held_out.values, rng, places)
    noise = torch.randn(held_out.values.shape, generator=rng)
    with torch.no_grad():
        outputs = model.teach(held_out, {"label": other_label})
        errors = [
            float(model.head.errors(given, held_out.values, time, noise, places).mean())
            for given in (outputs, outputs.roll(1, 0))
        ]
    assert errors[1] > 1.1 * errors[0]

    made = drawn(model, SIDES, 96)
    finest = scale_maps(made, 3)
    for scale, side in enumerate(SIDES[:-1]):
        coarse = scale_maps(made, scale)
        pooled = functional.adaptive_avg_pool2d(finest, side)
        alike = torch.corrcoef(torch.stack([pooled.flatten(), coarse.flatten()]))[0, 1]
        assert alike > 0.8


class ReadsClean(ECAR):
    """It learns from clean stages, so in sampling it reads what it never saw."""

    def loss(
        self, tokens: Tokens, condition: Condition, rng: torch.Generator | None = None
    ) -> LossBreakdown:
        self.clean = tokens
        return super().loss(tokens, condition, rng)

    def teach(self, results: Tokens, condition: Condition) -> Tensor:
        return super().teach(self.clean, condition)


ECAR_SIZES = ECARConfig(
    StackConfig(64, 2, 2),
    VELOCITY,
    MultistageConfig((8, 8, 8)),
    token_width=3,
    classes=9,
    scales=STAGES,
    dropout=0.0,
    attention_dropout=0.0,
)


def test_ecar_learns_real_pictures_if_it_reads_what_it_draws() -> None:
    latents, label, other, other_label = maps()
    train, held_out = tokens_of(latents, STAGES), tokens_of(other, STAGES)
    apart = []
    for family in (ECAR, ReadsClean):
        torch.manual_seed(0)
        model = family(ECAR_SIZES)
        learn(model, train, {"label": label}, 500)
        with torch.no_grad():
            parts = model.loss(held_out, {"label": other_label}).parts
        assert parts["mse"] < 0.7 * parts["still"]
        made = scale_maps(drawn(model, STAGES, 288), 2)
        assert (made.mean((0, 2, 3)).abs() < 0.25).all()  # that of the pictures is 0
        averages = (functional.avg_pool2d(each, 2).flatten(1) for each in (made, latents))
        apart.append(frechet_distance(*map(fit_gaussian, averages)))
    assert apart[1] > 1.5 * apart[0]


def test_ecar_keeps_the_spread_of_pictures() -> None:
    """By the default solver, in as many steps as it takes by default."""
    latents, label, *_ = maps()
    torch.manual_seed(0)
    model = ECAR(replace(ECAR_SIZES, multistage=MultistageConfig()))
    learn(model, tokens_of(latents, STAGES), {"label": label}, 1200)
    made = scale_maps(drawn(model, STAGES, 1152), 2)
    assert (made.mean((0, 2, 3)).abs() < 0.2).all()  # that of the pictures is 0, their variance 1
    assert ((made.var((0, 2, 3)) - 1).abs() < 0.2).all()
