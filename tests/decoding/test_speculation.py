"""Continuous speculative decoding: what is drawn is the target's, whatever the draft is."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.distributions import Normal

from limner.core.errors import ConfigError
from limner.core.head import Outputs
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.decoding.blocks import SpeculationConfig
from limner.decoding.speculation import Speculative, Tally, Verdict
from limner.heads import acceptance
from limner.heads.acceptance import keeps, log_ratio, residual
from limner.heads.annealing import StepAnnealing
from limner.heads.diffusion import DiffusionConfig, LastStep
from limner.heads.guidance import DrawnRamp
from limner.heads.paths import Given, log_density, walk
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MAR, MARConfig

LAYOUT = grid(4, 4, kind="values")
STACK = StackConfig(8, 1, 2)
# few and wide denoising steps: the last one's noise is as large as the tokens
CONFIG = MARConfig(
    STACK, STACK, DiffusionConfig(8, 1, "ddim2", chain=4), 16, 1, classes=2, buffer=1, steps=5
)


def build(config: MARConfig = CONFIG, shift: float = 0.0) -> MAR:
    torch.manual_seed(0)
    model = MAR(config).double().eval().requires_grad_(False)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15)
    model.head.denoiser.out.bias[0] += shift
    return model


def draw(model, seeds, options: Options, layout=LAYOUT) -> Tensor:
    rows = []
    for seed in seeds:
        blank = empty(layout, width=1, dtype=torch.float64)
        rows += model.begin(blank, {"label": torch.tensor([1])}, options, SeededNoise(seed))
    return torch.cat([row.tokens.values for row in generate(model, rows)])[..., 0]


def speculative(config: SpeculationConfig, shift: float = 0.0) -> tuple[Speculative, Tally]:
    model, tally = Speculative(build(shift=shift), build(), config), Tally()
    model.head.watches.append(tally)
    return model, tally


@pytest.mark.parametrize("options", [Options(), Options(DrawnRamp(2.0), temperature=0.8)])
def test_a_draft_that_is_the_target_is_always_kept(options: Options) -> None:
    model, tally = speculative(SpeculationConfig(drafts=2, ratio=0.0))
    alone = draw(model.target, [0, 1], replace(options, last_noise=True))
    torch.testing.assert_close(draw(model, [0, 1], options), alone, rtol=1e-9, atol=1e-9)
    # the first step alone, then two drafts and one more step a pass
    assert (tally.rejected, tally.target_passes, tally.draft_passes) == (0, 2 * 3, 2 * 3)
    model, tally = speculative(SpeculationConfig("released", drafts=1, ratio=0.0))
    alone = draw(model.target, [0, 1], options)
    torch.testing.assert_close(draw(model, [0, 1], options), alone, rtol=1e-9, atol=1e-9)
    assert (tally.rejected, tally.target_passes) == (0, 2 * 5)


class Ratios:
    """Remembers the acceptance ratios of the first drafted step of every block, and of others."""

    def __init__(self) -> None:
        self.first: list[Tensor] = []
        self.later: list[Tensor] = []

    def __call__(self, verdict: Verdict) -> None:
        for ratio, block in zip(verdict.ratio, verdict.blocks, strict=True):
            for part in range(block.drafted):
                (self.later if part else self.first).append(ratio[block.span(part)])


@pytest.mark.parametrize("options", [Options(), Options(DrawnRamp(2.0))])
def test_equal_models_agree_exactly_where_they_read_the_same(options: Options) -> None:
    """Of a released block's drafts the target reads none, so only the first is judged alike."""
    found = {}
    for drafts in (1, 3):
        model, _ = speculative(SpeculationConfig("released", drafts, 0.0))
        found[drafts] = Ratios()
        model.head.watches.append(found[drafts])
        draw(model, range(4), options)
    assert found[1].first and not found[1].later
    alone = torch.cat(found[1].first)
    torch.testing.assert_close(alone, torch.ones_like(alone))
    if options.guidance.active:
        return  # a block is guided as its last step is: none of its ratios need be 1
    first, later = torch.cat(found[3].first), torch.cat(found[3].later)
    torch.testing.assert_close(first, torch.ones_like(first))
    assert float(((later - 1).abs() > 1e-6).float().mean()) > 0.9
    assert 0.1 < len(first) / (len(first) + len(later)) < 0.6


def test_the_exact_mode_does_not_depend_on_the_batch() -> None:
    model, _ = speculative(SpeculationConfig(drafts=3, ratio=0.0), shift=0.1)
    alone = torch.cat([draw(model, [seed], Options()) for seed in range(3)])
    torch.testing.assert_close(draw(model, range(3), Options()), alone, rtol=1e-8, atol=1e-8)


def test_a_rejected_step_ends_the_block() -> None:
    model, tally = speculative(SpeculationConfig(drafts=4, ratio=0.0), shift=50.0)
    draw(model, [0], Options())
    assert tally.accepted == 0 and tally.dropped > 0
    assert tally.target_passes == 5  # one step a pass


def test_the_released_mode_takes_so_many_passes_whatever_is_rejected() -> None:
    for shift in (0.0, 5.0):
        model, tally = speculative(SpeculationConfig("released", 2, 0.2), shift)
        draw(model, [0], Options())
        # steps 0 and 1 by the target; verified at 2 and 4
        assert (tally.target_passes, tally.draft_passes) == (4, 3)
        assert tally.dropped == 0


def gaussian(mean: float, deviation: float, count: int) -> LastStep:
    shape = torch.ones(count, 1, dtype=torch.float64)
    return LastStep(mean * shape, deviation * shape, 0 * shape)


def distance(x: Tensor, y: Tensor) -> float:
    """Kolmogorov-Smirnov distance of two samples."""
    x, y = x.flatten().sort().values, y.flatten().sort().values
    both = torch.cat([x, y])
    shares = [torch.searchsorted(each, both, right=True) / len(each) for each in (x, y)]
    return float((shares[0] - shares[1]).abs().max())


def test_acceptance_and_resampling_give_the_target() -> None:
    count, rng = 20_000, torch.Generator().manual_seed(0)

    def normal(size: int = count) -> Tensor:
        return torch.randn(size, 1, generator=rng, dtype=torch.float64)

    def uniform(_: int = 0) -> Tensor:
        return torch.rand(count, generator=rng, dtype=torch.float64)

    draft, target = gaussian(0.0, 1.0, count), gaussian(0.7, 0.8, count)

    def drawn(honest: bool) -> Tensor:
        def propose(made: int, wanted: Tensor) -> tuple[Tensor, Tensor]:
            every = target.mean.clone()
            every[wanted] += target.deviation[wanted] * normal(len(wanted))
            ratio = log_ratio(every, draft, target)[wanted]
            return every[wanted], ratio if honest else torch.full_like(ratio, torch.inf)

        x = draft.mean + draft.deviation * normal()
        kept = keeps(log_ratio(x, draft, target), uniform())
        return torch.where(kept.unsqueeze(-1), x, residual(propose, uniform, count, 1000))

    reference = target.mean + target.deviation * normal()
    assert distance(drawn(honest=True), reference) < 0.02
    assert distance(draft.mean + draft.deviation * normal(), reference) > 0.2
    # plain samples of the target in place of rejected drafts
    assert distance(drawn(honest=False), reference) > 0.05


def test_a_way_is_as_likely_as_its_steps_are() -> None:
    """Walked and asked about again, under one model and another: sums of Gaussian densities."""
    head, other = build().head, build(shift=0.5).head
    rng = torch.Generator().manual_seed(0)
    lead = torch.randn(3, 1, 8, generator=rng, dtype=torch.float64)
    scales = torch.full((3,), torch.nan)
    given = Given(Outputs(lead, None, scales), torch.full((3,), 0.7), "ddim2")
    numbers = torch.randn(3, 3, 1, 1, generator=rng, dtype=torch.float64)
    way = walk(head, given, lambda purpose, inner: numbers[inner if purpose == "solver" else 2])
    torch.testing.assert_close(log_density(head, given, way.states), way.log_density)
    expected = torch.zeros(3, dtype=torch.float64)
    for inner in range(2):
        step = other.kernel(given.outputs, "ddim2")(way.states[inner], inner)
        deviation = (step.log_variance / 2).exp() * given.warmth.reshape(-1, 1, 1)
        density = Normal(step.mean, deviation).log_prob(way.states[inner + 1]).sum((1, 2))
        expected += density + 0.5 * math.log(2 * math.pi)
    torch.testing.assert_close(log_density(other, given, way.states), expected)


def chance(x: Tensor, y: Tensor) -> float:
    """Share of ways to deal rows [n, N] to two groups that set them as far apart as they are."""
    rng, both, seen = torch.Generator().manual_seed(0), torch.cat([x, y]), distance(x, y)
    dealt = [torch.randperm(len(both), generator=rng).split(len(x)) for _ in range(200)]
    return sum(distance(both[a], both[b]) >= seen for a, b in dealt) / len(dealt)


@pytest.mark.slow
def test_two_samples_tell_a_broken_rule_from_the_exact_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    layout = grid(8, 8, kind="values")
    config = replace(CONFIG, tokens=len(layout), steps=3)
    draft, target = build(config, shift=0.5), build(config)
    model = Speculative(draft, target, SpeculationConfig(drafts=3, ratio=0.0))
    tally = Tally()
    model.head.watches.append(tally)
    alone = draw(target, range(24), Options(last_noise=True), layout)
    assert chance(alone, draw(model, range(1000, 1024), Options(), layout)) > 0.01
    assert tally.accepted > 0 and tally.rejected > 0
    # a rule that keeps every draft
    monkeypatch.setattr(acceptance, "keeps", lambda ratio, uniform: torch.ones_like(ratio) > 0)
    assert chance(alone, draw(model, range(1000, 1024), Options(), layout)) < 0.01


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"token_width": 2}, "token_width=2 of the draft"),
        ({"tokens": 9}, "tokens=9 of the draft"),
        ({"classes": 3}, "classes=3 of the draft"),
        ({"head": DiffusionConfig(8, 1, "ddim4", chain=4)}, "head.steps='ddim4' of the draft"),
    ],
)
def test_a_draft_of_other_latents_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Speculative(build(replace(CONFIG, **changes)), build())


def test_settings_that_speculation_cannot_follow_are_refused() -> None:
    model, _ = speculative(SpeculationConfig("released"))
    with pytest.raises(ConfigError, match="temperature=0"):
        draw(model, [0], Options(temperature=0.0))
    with pytest.raises(ConfigError, match="annealing"):
        draw(model, [0], Options(annealing=StepAnnealing(4, 2)))
    for wrong in ({"drafts": 0}, {"ratio": 1.5}, {"mode": "fast"}, {"rounds": 0}):
        with pytest.raises(ConfigError, match=next(iter(wrong))):
            SpeculationConfig(**wrong)
