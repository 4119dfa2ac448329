"""Progressive training: when scales join, and what a step then learns."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.layout import pyramid
from limner.core.tokens import from_ids
from limner.models.var import VAR, VARConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer
from limner.training import load_recipe, train
from limner.training.growth import scales_learned, token_weights
from limner.training.recipe import GrowthRecipe


def test_scales_join_as_the_official_code_lets_them() -> None:
    growth = GrowthRecipe(first=5, until=0.8, rise=1 / 300)
    steps, warmup, scales = 3001, 61, 10
    began = 0
    for step in range(steps):
        if step <= warmup:
            official = 4
        elif step >= steps * 0.8:
            official = scales - 1
        else:
            official = 4 + round((step - warmup) / (steps * 0.8 - warmup) * 5)
        count, finest = scales_learned(growth, scales, step / steps, warmup / steps)
        assert count == official + 1
        before, _ = scales_learned(growth, scales, max(0, step - 1) / steps, warmup / steps)
        began = step if count != before else began
        rising = began > 0 and count < scales
        wanted = min(max((step - began) / 10, 0.01), 1.0) if rising else 1.0
        assert finest == pytest.approx(wanted, abs=0.11)


def test_weights_of_tokens() -> None:
    layout = pyramid(((1, 1), (1, 2), (2, 2)))
    assert token_weights(layout, 2, 0.25).tolist() == [1, 0.25, 0.25, 0, 0, 0, 0]
    assert token_weights(layout, 3, 1.0).tolist() == [1] * 7
    assert scales_learned(GrowthRecipe(first=9), 3, 0.0, 0.1) == (3, 1.0)


def test_finer_scales_take_no_part_in_the_loss() -> None:
    torch.manual_seed(0)
    config = VARConfig(24, 1, 3, 11, latent=4, classes=2, scales=(1, 2, 3), gate_gain=1.0)
    model = VAR(config).double().eval()
    torch.nn.init.normal_(model.output.weight)
    model.canvas = MultiScaleQuantizer(MultiScaleConfig(11, 4)).double()
    layout = pyramid(config.sizes)
    ids = torch.randint(11, (2, 14), generator=torch.Generator().manual_seed(1))
    condition = {"label": torch.tensor([0, 1])}

    def loss(ids: torch.Tensor, weight: torch.Tensor | None) -> torch.Tensor:
        return model.loss(from_ids(layout, ids), condition, None, weight).total

    whole = loss(ids, None)
    torch.testing.assert_close(loss(ids, torch.ones(14)), whole)
    few = token_weights(layout, 2, 1.0)
    changed = ids.clone()
    changed[:, 5:] = 0
    assert torch.equal(loss(ids, few), loss(changed, few))
    first = loss(ids, token_weights(layout, 1, 1.0))
    halved = loss(ids, token_weights(layout, 2, 0.5))
    torch.testing.assert_close(loss(ids, few) * 5, first + 2 * (halved * 3 - first))
    loss(ids, few).backward()
    assert model.scales.weight.grad is not None
    assert model.scales.weight.grad[1].abs().sum() > 0 and not model.scales.weight.grad[2].any()


SMALL = {
    "data.size": 16,
    "data.classes": ["Activities"],
    "tokenizer.config": {"codebook_size": 32, "width": 4, "scales": [1, 2, 4]},
    "model.config": {"width": 16, "depth": 1, "heads": 1, "latent": 4},
    "budget": {"steps": 6, "batch": 8},
    "evaluations": 1,
    "sample.each": 0,
    "device": "cpu",
}


def test_a_recipe_may_grow(tmp_path: Path) -> None:
    growth = {"first": 1, "until": 0.8, "rise": 0.0}
    run = train(load_recipe("var/tiny", {**SMALL, "growth": growth, "output": str(tmp_path / "a")}))
    plain = train(load_recipe("var/tiny", {**SMALL, "output": str(tmp_path / "b")}))
    assert run.metrics["held_out"]["loss"] != plain.metrics["held_out"]["loss"]


def test_what_cannot_grow(tmp_path: Path) -> None:
    growth = {"first": 2}
    with pytest.raises(ConfigError, match=r"growth=.* with a budget of steps"):
        load_recipe("var/tiny", {"growth": growth})
    with pytest.raises(ConfigError, match="first=0"):
        load_recipe("var/tiny", {"growth": {"first": 0}})
    recipe = load_recipe(
        "llamagen/tiny",
        {"growth": growth, "budget.steps": 2, "data.classes": ["Activities"],
         "output": str(tmp_path / "c")},
    )  # fmt: skip
    with pytest.raises(ConfigError, match="LlamaGen does not learn scale by scale"):
        train(recipe)
