"""Optimizer, learning rate, averaged weights, batches, and how parts are built."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.core.seeds import seeded
from limner.data.endless import EndlessOrder
from limner.hub.save import save_part
from limner.training.ema import Ema
from limner.training.engine import Engine
from limner.training.merging import merge
from limner.training.optimizer import build_optimizer, follow_schedule, learning_rate
from limner.training.parts import build_part
from limner.training.pieces import Share
from limner.training.prepare import prepare
from limner.training.recipe import Budget, OptimizerRecipe, PartRecipe, Recipe

CONFIG = {"width": 16, "depth": 1, "heads": 2, "multiple_of": 8, "codebook_size": 4}


def test_only_matrices_are_decayed() -> None:
    model = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 6))
    decayed, free = build_optimizer(model, OptimizerRecipe(weight_decay=0.3)).param_groups
    assert [p.dim() for p in decayed["params"]] == [2, 2]
    assert [p.dim() for p in free["params"]] == [1, 1, 1]
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.3, 0.0)


@pytest.mark.parametrize(
    ("schedule", "middle", "end"),
    [("constant", 1, 1), ("cosine", 0.55, 0.1), ("linear", 0.55, 0.1)],
)
def test_the_rate_rises_and_falls(schedule: str, middle: float, end: float) -> None:
    recipe = OptimizerRecipe(lr=1.0, warmup=0.2, schedule=schedule, final=0.1)  # type: ignore[arg-type]
    rates = [learning_rate(recipe, share) for share in (0.0, 0.1, 0.2, 0.6, 1.0, 1.3)]
    assert rates == pytest.approx([0.0, 0.5, 1.0, middle, end, end])


def test_the_rate_holds_and_drops() -> None:
    """MAR rises from a share and stays; VAR's "lin0" and WSD hold first; NAR drops three times."""
    held = OptimizerRecipe(lr=1.0, warmup=0.0, hold=0.5, schedule="linear", final=0.2)
    rates = [learning_rate(held, share) for share in (0.0, 0.5, 0.75, 1.0)]
    assert rates == pytest.approx([1.0, 1.0, 0.6, 0.2])
    drops = OptimizerRecipe(lr=1.0, warmup=0.0, schedule="steps")
    rates = [learning_rate(drops, share) for share in (0.0, 0.49, 0.5, 0.7, 0.9)]
    assert rates == pytest.approx([1.0, 1.0, 0.2, 0.04, 0.008])
    rising = OptimizerRecipe(lr=1.0, warmup=0.5, start=0.2, schedule="constant")
    assert [learning_rate(rising, s) for s in (0, 0.25, 1)] == pytest.approx([0.2, 0.6, 1.0])


def test_weight_decay_moves_by_half_a_cosine_and_spares_what_is_named() -> None:
    recipe = OptimizerRecipe(weight_decay=0.1, final_weight_decay=0.3, no_decay=("head.*",))
    model = nn.ModuleDict({"body": nn.Linear(2, 2), "head": nn.Linear(2, 2)})
    optimizer = build_optimizer(model, recipe)
    for share, decay in ((0.0, 0.1), (0.5, 0.2), (1.0, 0.3)):
        follow_schedule(optimizer, recipe, share)
        groups = {len(group["params"]): group["weight_decay"] for group in optimizer.param_groups}
        assert groups == {1: pytest.approx(decay), 3: 0.0}


def test_every_example_comes_once_an_epoch_from_any_position() -> None:
    order = EndlessOrder(10, seed=3)
    first, second = order.take(0, 10), order.take(10, 10)
    assert sorted(first.tolist()) == sorted(second.tolist()) == list(range(10))
    assert first.tolist() != second.tolist()
    assert torch.equal(EndlessOrder(10, seed=3).take(7, 8), torch.cat([first[7:], second[:5]]))
    assert EndlessOrder(3, seed=0).take(1, 9).shape == (9,)


def test_processes_share_a_batch_and_keep_its_random_numbers() -> None:
    """One process with four pieces draws what two with two each draw."""
    budget = Budget(steps=1, batch=8, pieces=4)

    def pieces(rank: int, ranks: int) -> list[tuple[int, int]]:
        share = Share(budget, 0, SimpleNamespace(rank=rank, ranks=ranks))  # type: ignore[arg-type]
        first = share.first(step=5)
        return [
            (first + number * share.piece_size, share.piece(5, number, None).seed)
            for number in range(share.pieces)
        ]

    assert pieces(0, 1) == pieces(0, 2) + pieces(1, 2)
    with pytest.raises(ConfigError, match=r"budget\.pieces=4 .* multiple of 3 processes"):
        pieces(0, 3)


def test_another_kind_or_family_replaces_its_fields() -> None:
    base = {"views": {"kind": "shifted", "shift": 2}, "model": {"family": "a", "config": {"x": 1}}}
    assert merge(base, {"views": {"kind": "ten"}})["views"] == {"kind": "ten"}
    assert merge(base, {"views": {"flip": 1}})["views"] == {
        "kind": "shifted",
        "shift": 2,
        "flip": 1,
    }
    assert merge(base, {"model": {"family": "b"}})["model"] == {"family": "b"}
    assert merge(base, {"model": {"config": {"y": 2}}})["model"]["config"] == {"x": 1, "y": 2}


def test_a_budget_is_counted_in_one_unit() -> None:
    assert Budget(steps=10).share(5, seconds=1e9) == 0.5
    assert Budget(seconds=10).share(10**9, seconds=5) == 0.5


def test_averaged_weights_are_put_in_and_taken_out() -> None:
    model = nn.Linear(1, 1, bias=False)
    nn.init.zeros_(model.weight)
    ema = Ema(model, decay=0.5)
    expected = 0.0
    for n in range(1, 20):
        nn.init.constant_(model.weight, float(n))
        ema.update()
        keep = min(0.5, (1 + n) / (10 + n))
        expected = keep * expected + (1 - keep) * n
    with pytest.raises(RuntimeError, match="inside"), ema.applied():
        assert model.weight.item() == pytest.approx(expected)
        raise RuntimeError("inside")
    assert model.weight.item() == 19.0


def test_purposes_have_generators_of_their_own() -> None:
    def draw(seed: int, purpose: str) -> int:
        return int(torch.randint(2**40, (1,), generator=seeded(seed, purpose)))

    assert draw(0, "a") == draw(0, "a")
    assert len({draw(0, "a"), draw(0, "b"), draw(1, "a")}) == 3


def test_facts_fill_what_is_left_open() -> None:
    part = PartRecipe(family="llamagen", config=CONFIG)
    built = build_part(MODELS, part, {"classes": 3, "codebook_size": 99, "scales": [[1, 1]]})
    assert (built.config.classes, built.config.codebook_size) == (3, 4)


def test_weights_bring_their_configuration(tmp_path: object) -> None:
    folder = f"{tmp_path}/pipeline/model"
    trained = build_part(MODELS, PartRecipe(family="llamagen", config={**CONFIG, "classes": 3}), {})
    nn.init.normal_(trained.output.weight)
    save_part(trained.half(), folder)  # as shipped ones are
    again = build_part(
        MODELS,
        PartRecipe(variant="llamagen-b", weights=f"{tmp_path}/pipeline", config={"dropout": 0.3}),
        {"classes": 8},
    )
    assert (again.config.classes, again.config.width, again.config.dropout) == (3, 16, 0.3)
    assert torch.equal(again.output.weight, trained.output.weight.float())
    assert {weight.dtype for weight in again.state_dict().values()} == {torch.float32}
    with pytest.raises(ConfigError, match="weights of the family 'var', not of 'llamagen'"):
        build_part(MODELS, PartRecipe(family="var", weights=folder), {})


def test_nested_fields_are_changed_one_by_one() -> None:
    stack = {"width": 32, "depth": 1, "heads": 2}
    config = {"encoder": stack, "decoder": stack, "head": {"width": 16, "depth": 1}}
    part = PartRecipe(variant="mar-base", config=config | {"tokens": 4})
    built = build_part(MODELS, part, {})
    published = MODELS.get_variant("mar-base").config
    assert built.config.head.width == 16
    assert built.config.head.chain == published.head.chain
    assert built.config.encoder.ratio == published.encoder.ratio


def test_a_tokenizer_without_a_fit_needs_weights(
    small: Callable[..., Recipe], tmp_path: Path
) -> None:
    config = {"convolution": {"channels": 32, "multipliers": [1], "blocks": 1}, "latent": 8}
    recipe = replace(small(), tokenizer=PartRecipe(family="llamagen-vq", config=config))
    with pytest.raises(ConfigError, match=r"set tokenizer\.weights"):
        prepare(recipe, tmp_path, Engine("cpu"))
