"""Verbs that train, convert, verify and list."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from limner.training import Recipe


@pytest.fixture
def trained(monkeypatch: pytest.MonkeyPatch) -> list[Recipe]:
    """The recipes that training was called with; nothing is trained."""
    recipes: list[Recipe] = []

    def train(recipe: Recipe, resume: bool) -> Any:
        recipes.append(recipe)
        return SimpleNamespace(interrupted=recipe.seed == 13)

    monkeypatch.setattr("limner.training.train", train)
    return recipes


def test_fields_of_a_recipe_are_changed_by_path(limner, trained: list[Recipe]) -> None:
    ran = limner(
        *("train", "--optimizer.lr", "3e-4", "llamagen/tiny", "--budget.seconds=60"),
        *("--data.classes", "[Activities, Objects]", "--data.held-out", "0.2", "--output", "here"),
    )
    assert ran.code == 0
    (recipe,) = trained
    assert recipe.optimizer.lr == 3e-4
    assert recipe.budget.seconds == 60
    assert recipe.data.classes == ("Activities", "Objects")
    assert recipe.data.held_out == 0.2
    assert recipe.output == "here"


def test_weights_to_start_from(limner, trained: list[Recipe]) -> None:
    assert limner("train", "llamagen/tiny", "--init", "some/folder").code == 0
    assert trained[0].model.weights == "some/folder"
    assert limner("train", "vqgan/tiny", "--init", "some/folder").code == 0
    assert trained[1].tokenizer.weights == "some/folder"


def test_a_run_that_is_stopped_says_so_by_its_exit_code(limner, trained: list[Recipe]) -> None:
    assert limner("train", "llamagen/tiny", "--seed", 13).code == 130


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["llamagen/tinny"], "did you mean 'llamagen/tiny'?"),
        (["missing.yaml"], "'missing.yaml' does not exist"),
        (["broken.yaml"], "broken.yaml:3:1: "),
        (["llamagen/tiny", "--optimizer.lrr", "1"], "did you mean 'lr'?"),
        (["llamagen/tiny", "--optimiser.lr", "1"], "did you mean 'optimizer'?"),
        (["llamagen/tiny", "--optimizer.lr", "fast"], "optimizer.lr='fast' is not accepted"),
        (["llamagen/tiny", "--data.classes", "[a"], "must be written as in YAML"),
        (["llamagen/tiny", "--seed"], "expected one argument"),
    ],
)
def test_recipes_that_cannot_be_followed(
    limner, trained: list[Recipe], words: list[str], expected: str
) -> None:
    Path("broken.yaml").write_text("name: x\ndata: [1, 2\n")
    ran = limner("train", *words)
    assert ran.code == 2
    assert expected in ran.err
    assert not trained


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--data.source", "no/such"], "does not exist"),
        (["--data.source", "empty/folder"], "holds no pictures"),
        (["--data.classes", "[Activitis]"], "did you mean 'Activities'?"),
        (["--model.variant", "llamagen-z"], "unknown model 'llamagen-z'"),
        (["--device", "tpu9"], "device='tpu9' is not accepted"),
    ],
)
def test_training_that_cannot_begin(limner, words: list[str], expected: str) -> None:
    Path("empty/folder").mkdir(parents=True)
    small = ("--data.classes", "[Flags]", "--data.size", 8, "--data.views.count", 2)
    ran = limner("train", "llamagen/tiny", "--budget.seconds", 1, *small, *words)
    assert ran.code == 2
    assert expected in ran.err


def test_recipes_are_listed(limner) -> None:
    assert "llamagen/tiny" in limner("recipes").out.split()


class _Attack:
    def __reduce__(self) -> Any:
        return os.system, ("touch attacked",)


def test_a_file_with_code_in_it_is_refused_and_not_run(limner) -> None:
    torch.save({"model": _Attack()}, "zip.pt")
    Path("bare.pt").write_bytes(pickle.dumps(_Attack(), protocol=2))
    for file in ("zip.pt", "bare.pt"):
        ran = limner("convert", file, "out")
        assert ran.code == 2
        assert file in ran.err
    assert "may run code" in limner("convert", "zip.pt", "out").err
    assert not Path("attacked").exists() and not Path("out").exists()


def test_files_that_cannot_be_converted(limner, tiny_pipeline_folder: Path) -> None:
    whole = (tiny_pipeline_folder / "model" / "model.safetensors").read_bytes()
    Path("cut.safetensors").write_bytes(whole[:-100])
    assert "truncated" in limner("convert", "cut.safetensors", "out").err
    torch.save({"a": torch.zeros(1)}, "unknown.pt")
    assert "known systems: " in limner("convert", "unknown.pt", "out").err
    assert limner("convert", "/no/such.pt", "out").code == 2
    ran = limner("convert", "unknown.pt", "out", "--system", "lamagen")
    assert "did you mean 'llamagen" in ran.err
    assert not Path("out").exists()


def test_what_was_converted_is_said(limner, monkeypatch: pytest.MonkeyPatch) -> None:
    from limner.hub.convert import Converted

    asked: dict[str, Any] = {}

    def convert(source: str, destination: str, **options: Any) -> Converted:
        asked.update(options)
        return Converted(
            destination, "llamagen", "model", "llamagen", None, 1234, source, "ab12", "MIT"
        )

    monkeypatch.setattr("limner.hub.convert.convert", convert)
    ran = limner("convert", "x.pt", "out", "--set", "heads=16", "--dtype", "bfloat16")
    assert ran.code == 0
    assert asked["given"] == {"heads": 16} and asked["dtype"] is torch.bfloat16
    for part in ("1,234 parameters", "ab12", "MIT", "out: model of llamagen"):
        assert part in ran.out


def test_verify_fails_with_one(limner) -> None:
    Path("empty").mkdir()
    for path in ("empty", "missing"):
        ran = limner("verify", path)
        assert ran.code == 1
        assert ran.err.startswith("limner: error: ") and path in ran.err
    Path("case").mkdir()
    Path("case/config.json").write_text("{")
    ran = limner("verify", "case")
    assert ran.code == 1
    assert "FAIL" in ran.out


@pytest.mark.parametrize("kind", ["models", "tokenizers"])
def test_variants_are_listed_with_counts(limner, few_variants: None, kind: str) -> None:
    rows = json.loads(limner(kind, "--json").out)
    assert rows and all(row["parameters"] > 0 for row in rows)
    table = limner(kind).out
    for row in rows:
        assert f"{row['parameters']:,}" in table and row["name"] in table


def test_the_quickstart_gets_its_options(limner, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    monkeypatch.setattr(
        "limner.quickstart.run", lambda output, **options: asked.append((output, options))
    )
    assert limner("quickstart", "--seconds", 5).code == 0
    assert limner("quickstart", "--output", "there").code == 0
    assert asked == [("runs/quickstart", {"seconds": 5.0}), ("there", {})]
