"""Continuous speculative decoding: what is drawn is the target's, whatever the draft is."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.row import Options
from limner.core.tokens import empty
from limner.decoding import generate
from limner.decoding.blocks import SpeculationConfig
from limner.decoding.speculation import Speculative, Tally
from limner.heads import acceptance
from limner.heads.acceptance import log_ratio, resample
from limner.heads.annealing import StepAnnealing
from limner.heads.diffusion import DiffusionConfig, LastStep
from limner.heads.guidance import DrawnRamp
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


def test_acceptance_and_resampling_give_the_target(monkeypatch: pytest.MonkeyPatch) -> None:
    count, rng = 20_000, torch.Generator().manual_seed(0)

    def normal(_: int = 0) -> Tensor:
        return torch.randn(count, 1, generator=rng, dtype=torch.float64)

    def uniform(_: int = 0) -> Tensor:
        return torch.rand(count, generator=rng, dtype=torch.float64)

    draft, target = gaussian(0.0, 1.0, count), gaussian(0.7, 0.8, count)
    none = torch.zeros(count, dtype=torch.float64)

    def drawn() -> Tensor:
        x = draft.mean + draft.deviation * normal()
        kept = log_ratio(x, draft, target).exp() > uniform()
        taken, hit, _ = resample(draft, target, none, normal, uniform, 1000, True, ~kept)
        assert bool((kept | (hit >= 0)).all())
        return torch.where(kept.unsqueeze(-1), x, taken)

    reference = target.mean + target.deviation * normal()
    assert distance(drawn(), reference) < 0.02
    assert distance(draft.mean + draft.deviation * normal(), reference) > 0.2
    # plain samples of the target in place of rejected drafts
    monkeypatch.setattr(acceptance, "kept_share", lambda y, *rest: torch.ones_like(y[..., 0]))
    assert distance(drawn(), reference) > 0.05


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
    monkeypatch.setattr(acceptance, "log_ratio", lambda x, *rest: torch.full_like(x[..., 0], 9.0))
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
