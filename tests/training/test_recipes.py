"""Recipes: packaged ones are sound, files extend each other, mistakes are named."""

from __future__ import annotations

from pathlib import Path

import pytest

from limner.core.config import from_dict, to_dict
from limner.core.errors import ConfigError
from limner.core.registry import MODELS, TOKENIZERS
from limner.hub.build import weightless
from limner.recipes import list_recipes
from limner.training import dump_recipe, load_recipe
from limner.training.optimizer import build_optimizer
from limner.training.recipe import DistillationRecipe, PartRecipe, Recipe

TINY = "llamagen/tiny"


@pytest.mark.parametrize("name", list_recipes())
def test_packaged_recipes_name_parts_that_exist(name: str) -> None:
    needs_no_data = "tiny" in name or name.startswith("distilled-decoding/")
    recipe = load_recipe(name, {} if needs_no_data else {"data.source": "pictures"})
    assert recipe.name == name
    if isinstance(recipe, DistillationRecipe):
        return  # its teacher says what it is made of
    parts = [(TOKENIZERS, recipe.tokenizer)]
    parts += [(MODELS, recipe.model)] if isinstance(recipe, Recipe) else []
    for registry, part in parts:
        if part.variant is None and part.family is None:
            assert part.weights is not None  # which say what it is
            continue
        if part.variant is not None:
            variant = registry.get_variant(part.variant)
            family, values = registry.get_family(variant.family), to_dict(variant.config)
        else:
            family, values = registry.get_family(str(part.family)), {}
        from_dict(family.config, values | part.config)


@pytest.mark.parametrize(
    ("name", "width", "guidance"), [("base", 768, 2.9), ("large", 1024, 3.0), ("huge", 1280, 3.2)]
)
def test_mar_is_trained_as_published(name: str, width: int, guidance: float) -> None:
    recipe = load_recipe(f"mar/{name}-256", {"data.source": "x"})
    assert isinstance(recipe, Recipe)
    optimizer, budget, pictures = recipe.optimizer, recipe.budget, 1_281_167
    assert optimizer.lr == pytest.approx(1e-4 * budget.batch / 256)
    assert budget.steps == 800 * (pictures // budget.batch)
    assert optimizer.warmup == pytest.approx(100 / 800) and optimizer.schedule == "constant"
    assert (optimizer.weight_decay, optimizer.clip, recipe.ema) == (0.02, 3.0, 0.9999)
    assert recipe.sample.guidance == guidance
    assert MODELS.get_variant(str(recipe.model.variant)).config.encoder.width == width
    assert recipe.model.config["steps"] == 256


def test_paper_scale_recipes_ask_for_the_data() -> None:
    with pytest.raises(ConfigError, match=r"data\.source is missing"):
        load_recipe("llamagen/xl-384")


def test_extended_recipes_keep_what_they_do_not_state() -> None:
    base = load_recipe("llamagen/b-256", {"data.source": "x"})
    large = load_recipe("llamagen/xl-384", {"data.source": "x"})
    assert (large.data.size, large.model.variant) == (384, "llamagen-xl")
    assert (large.optimizer, large.budget) == (base.optimizer, base.budget)


@pytest.mark.parametrize(
    ("name", "epochs", "batch", "rate", "end", "decay"),
    [  # as the commands of FoundationVision/VAR's README have it: ep, bs, tblr, wpe, twde
        ("d16", 200, 768, 1e-4, 0.1, 0.05),
        ("d20", 250, 768, 1e-4, 0.1, 0.05),
        ("d24", 350, 768, 8e-5, 0.01, 0.05),
        ("d30", 350, 1024, 8e-5, 0.01, 0.08),
        ("d36-512", 350, 768, 8e-5, 0.01, 0.08),
    ],
)
def test_var_is_trained_as_published(
    name: str, epochs: int, batch: int, rate: float, end: float, decay: float
) -> None:
    recipe = load_recipe(f"var/{name}", {"data.source": "x"})
    optimizer, budget = recipe.optimizer, recipe.budget
    pictures = 1_281_167
    assert (budget.batch, budget.steps) == (batch, epochs * -(-pictures // batch))
    assert optimizer.lr == pytest.approx(rate * batch / 256)
    assert (optimizer.final, optimizer.hold, optimizer.warmup) == (end, 0.05, 1 / 50)
    ends = optimizer.final_weight_decay or optimizer.weight_decay
    assert (optimizer.weight_decay, ends, optimizer.clip) == (0.05, decay, 2.0)
    assert isinstance(recipe, Recipe)
    variant = MODELS.get_variant(str(recipe.model.variant))
    tokenizer = TOKENIZERS.get_variant("var-vqvae").config
    scales = recipe.tokenizer.config.get("scales", tokenizer.scales)
    assert tuple(scales) == variant.config.scales
    assert recipe.data.size == 16 * scales[-1]
    with weightless():
        model = MODELS.create(str(recipe.model.variant))
    decayed = build_optimizer(model, optimizer).param_groups[0]["params"]
    names = {id(weight): name for name, weight in model.named_parameters()}
    kept = {names[id(weight)].split(".")[-2] for weight in decayed}
    assert {"qkv", "into", "out", "linear", "words", "table", "output"} >= kept
    assert not {"start", "places", "scales"} & kept


def test_overrides_by_path() -> None:
    recipe = load_recipe(TINY, {"optimizer.lr": "3e-4", "model.config.depth": 2, "seed": 7})
    assert (recipe.optimizer.lr, recipe.seed) == (3e-4, 7)
    before = load_recipe(TINY).model.config
    assert recipe.model.config == {**before, "depth": 2}


def test_one_budget_replaces_the_other() -> None:
    budget = load_recipe(TINY, {"budget.steps": 5}).budget
    assert (budget.steps, budget.seconds) == (5, None)
    with pytest.raises(ConfigError, match="either steps or seconds"):
        load_recipe(TINY, {"budget": {"steps": 5, "seconds": 5}})


def test_a_dumped_recipe_is_read_back(tmp_path: Path) -> None:
    recipe = load_recipe(TINY, {"budget.steps": 5, "ema": 0.9})
    file = tmp_path / "recipe.yaml"
    file.write_text(dump_recipe(recipe), encoding="utf-8")
    assert load_recipe(file) == recipe


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        ("optimiser.lr", 1e-3, "did you mean 'optimizer'"),
        ("optimizer.rl", 1e-3, r"field of optimizer 'rl'"),
        ("optimizer.lr", "fast", r"optimizer\.lr='fast' is not accepted"),
        ("optimizer.schedule", "cosin", "did you mean 'cosine'"),
        ("optimizer.lr", -1, r"optimizer: lr=-1\.0 is not accepted"),
        ("data.views.kind", "tenn", r"data: .*did you mean 'ten'"),
        ("data.views.shift", -1, r"data: .*shift=-1 is not accepted"),
        ("model.family", None, "a family, or a variant, or weights alone"),
    ],
)
def test_mistakes_are_named(path: str, value: object, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        load_recipe(TINY, {path: value})


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(ConfigError, match="did you mean 'llamagen/tiny'"):
        load_recipe("llamagen/tinny")
    with pytest.raises(ConfigError, match="does not exist"):
        load_recipe("nowhere.yaml")


def test_a_file_extends_a_file_beside_it(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("extends: llamagen/tiny\nseed: 3\n")
    (tmp_path / "mine.yaml").write_text("extends: base.yaml\noptimizer: {lr: 0.5}\n")
    recipe = load_recipe(tmp_path / "mine.yaml")
    assert (recipe.name, recipe.output) == ("mine", "runs/mine")
    assert (recipe.seed, recipe.optimizer.lr, recipe.data.source) == (3, 0.5, "twemoji")


def test_a_circle_of_files_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text("extends: b.yaml\n")
    (tmp_path / "b.yaml").write_text("extends: a.yaml\n")
    with pytest.raises(ConfigError, match="extends itself"):
        load_recipe(tmp_path / "a.yaml")


def test_broken_yaml_is_one_line_with_its_place(tmp_path: Path) -> None:
    file = tmp_path / "broken.yaml"
    file.write_text("name: x\ndata: {source: [a\nseed: 1\n")
    with pytest.raises(ConfigError) as error:
        load_recipe(file)
    assert str(error.value).startswith(f"{file}:3:")
    assert "\n" not in str(error.value)
    file.write_text("- a list\n")
    with pytest.raises(ConfigError, match="must hold fields and values, not list"):
        load_recipe(file)


def test_a_part_is_named_once() -> None:
    PartRecipe(weights="folder")
    PartRecipe(variant="llamagen-b", weights="folder")
    with pytest.raises(ConfigError):
        PartRecipe(family="llamagen", variant="llamagen-b")


def test_weights_alone_replace_what_a_recipe_says_of_a_part() -> None:
    said = load_recipe("llamagen/tiny", {"tokenizer.weights": "runs/mine"})
    assert said.tokenizer == PartRecipe(weights="runs/mine")
    named = load_recipe("llamagen/tiny", {"tokenizer": {"family": "vqgan", "weights": "runs/mine"}})
    assert named.tokenizer == PartRecipe(family="vqgan", weights="runs/mine")
    changed = load_recipe("llamagen/tiny", {"model": {"weights": "x", "config": {"dropout": 0.2}}})
    assert changed.model == PartRecipe(weights="x", config={"dropout": 0.2})
