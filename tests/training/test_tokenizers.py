"""Tokenizers are trained by the same loop: every quantiser, both players, kills and all."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from limner.core.errors import ConfigError, DataError
from limner.core.registry import TOKENIZERS
from limner.data import load_pictures
from limner.hub.save import load_part
from limner.training import TokenizerRecipe, load_recipe, train
from limner.training.checkpoint import Checkpoints
from limner.training.tokenizer_task import TokenizerTask

SMALL = {
    "data.size": 16,
    "data.classes": ["Activities", "Food & Drink"],
    "tokenizer.config": {
        "convolution": {"channels": 32, "multipliers": [1, 1], "blocks": 1},
        "latent": 8,
        "quantizer": {"kind": "vq", "codebook_size": 32, "width": 4},
    },
    "perceptual": None,
    "objective": {"start": 2, "discriminator": {"channels": 8, "depth": 1}},
    "budget.steps": 4,
    "budget.batch": 8,
    "evaluations": 2,
    "device": "cpu",
}
QUANTIZERS: dict[str, dict[str, Any]] = {
    "vq": {"kind": "vq", "codebook_size": 256, "width": 8},
    "vq-cosine": {"kind": "vq", "codebook_size": 256, "width": 8, "normalize": True},
    "vq-legacy": {
        "kind": "vq",
        "codebook_size": 256,
        "width": 8,
        "commitment": 1.0,
        "pull": 0.25,
    },
    "vq-rotation": {"kind": "vq", "codebook_size": 256, "width": 8, "rotation": True},
    "vq-ema": {"kind": "vq", "codebook_size": 256, "width": 8, "pull": 0.0},
    "residual": {"kind": "residual", "codebook_size": 64, "width": 8, "levels": 2},
    "fsq": {"kind": "fsq", "levels": [6, 6, 6]},
    "lfq": {"kind": "lfq", "bits": 8},
    "bsq": {"kind": "bsq", "bits": 8},
}
Small = Callable[..., TokenizerRecipe]


@pytest.fixture
def small(tmp_path: Path) -> Small:
    """A function that makes a small recipe; fields are overridden by path."""

    def make(overrides: dict[str, Any] | None = None) -> TokenizerRecipe:
        fields = {**SMALL, "output": str(tmp_path / "run"), **(overrides or {})}
        recipe = load_recipe("vqgan/tiny", fields)
        assert isinstance(recipe, TokenizerRecipe)
        return recipe

    return make


def test_a_run_leaves_a_tokenizer_and_what_is_known_of_it(small: Small, recorder) -> None:
    run = train(small(), recorder)
    kept = load_part(run.directory / "tokenizer", TOKENIZERS)
    pictures = load_pictures("twemoji", 16).to_float([0, 1])
    assert torch.equal(
        kept.decode(kept.encode(pictures)), run.part.decode(run.part.encode(pictures))
    )
    assert {"psnr", "ssim", "usage", "perplexity"} <= run.metrics["held_out"].keys()
    assert (run.directory / "samples.png").is_file()
    assert (run.directory / "samples" / "step-00000002.png").is_file()
    lines = [json.loads(line) for line in (run.directory / "log.jsonl").open()]
    assert {"held_out_psnr", "held_out_usage", "codes_in_batch"} <= lines[-1].keys()
    assert "discriminator_loss" in lines[-1], "the discriminator plays from step 2"
    assert "discriminator_loss" not in lines[1]
    assert "codes used" in recorder.said[-1]


@pytest.mark.parametrize("cut", [(TokenizerTask, "pieces"), (Checkpoints, "write")])
def test_a_killed_run_goes_on_to_the_bit(
    small: Small, recorder, monkeypatch, tmp_path, cut
) -> None:
    fields = {"checkpoint.every": 1, "ema": 0.9, "budget.pieces": 2, "budget.steps": 6}
    whole = train(small({**fields, "output": str(tmp_path / "whole")}), recorder)
    owner, name = cut
    honest, calls = getattr(owner, name), []

    def dying(*arguments: object) -> object:
        calls.append(1)
        if len(calls) % 4 == 0:
            raise KeyboardInterrupt
        return honest(*arguments)

    monkeypatch.setattr(owner, name, dying)
    for _ in range(10):
        try:
            cut_short = train(small(fields), recorder, resume=True)
            break
        except KeyboardInterrupt:
            pass
    assert len(calls) > 6
    states = (Checkpoints(run.directory, 1).latest() for run in (whole, cut_short))
    first, second = (state.tensors for state in states if state is not None)
    assert first.keys() == second.keys()
    assert any("keeper" in name for name in first) and any("discriminator" in n for n in first)
    for name, tensor in first.items():
        assert torch.equal(tensor, second[name]), name


def test_pictures_are_streamed_where_crops_need_their_size(
    small: Small, recorder, tmp_path: Path
) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(12):
        Image.effect_noise((20 + number, 24), 80).convert("RGB").save(photos / f"{number}.png")
    fields = {
        "data.source": str(photos),
        "data.classes": None,
        "data.views": {"kind": "random", "flip": 0.5},
        "objective.adversarial": 0.0,
    }
    crops = []
    for workers in (0, 1):
        recipe = small({**fields, "data.workers": workers, "output": str(tmp_path / f"{workers}")})
        run = train(recipe, recorder)
        crops.append((run.directory / "tokenizer" / "model.safetensors").read_bytes())
    assert crops[0] == crops[1], "workers change nothing"


def test_a_kl_autoencoder_is_trained_too(small: Small, recorder) -> None:
    tokenizer = {
        "family": "kl-autoencoder",
        "config": {
            "convolution": {"channels": 32, "multipliers": [1, 1], "blocks": 1},
            "latent": 4,
        },
    }
    run = train(small({"tokenizer": tokenizer, "objective.codes": 1e-6}), recorder)
    assert "usage" not in run.metrics["held_out"]
    assert run.part.width == 4
    kept = load_part(run.directory / "tokenizer", TOKENIZERS)
    values = kept.encode(load_pictures("twemoji", 16, SMALL["data.classes"]).to_float()).values
    assert values.std() == pytest.approx(1.0, abs=0.3), "tokens are scaled to variance 1"


def test_what_cannot_be_trained_is_refused_before_work(small: Small, recorder) -> None:
    with pytest.raises(ConfigError, match="cannot be trained by a recipe of its own"):
        train(small({"tokenizer": {"family": "patch-kmeans", "config": {}}}), recorder)
    with pytest.raises(ConfigError, match=r"perceptual='vgg\.pth' is not accepted"):
        train(small({"perceptual": "vgg.pth"}), recorder)
    with pytest.raises(ConfigError, match="size"):
        train(small({"data.size": 17}), recorder)
    with pytest.raises(DataError, match="nowhere"):
        train(small({"data.source": "nowhere/at/all", "data.classes": None}), recorder)


def test_a_run_starts_from_the_weights_of_another(small: Small, recorder, tmp_path: Path) -> None:
    first = train(small({"budget.steps": 8}), recorder)
    fields = {"tokenizer.weights": str(first.directory), "output": str(tmp_path / "second")}
    second = train(small(fields), recorder)
    line = json.loads((second.directory / "log.jsonl").read_text().splitlines()[0])
    assert line["held_out"] == pytest.approx(first.metrics["held_out"]["loss"], abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("name", QUANTIZERS)
def test_no_quantiser_collapses_on_a_few_hundred_pictures(
    name: str, recorder, tmp_path: Path
) -> None:
    """By the defaults most codes are used, and pictures come back better than their mean."""
    fields = {
        "data.classes": ["Animals & Nature", "Food & Drink", "Objects"],
        "tokenizer.config.quantizer": QUANTIZERS[name],
        "upkeep.average": name == "vq-ema",
        "objective.adversarial": 0.0,
        "perceptual": None,
        "budget.steps": 250,
        "evaluations": 2,
        "output": str(tmp_path / "run"),
    }
    run = train(load_recipe("vqgan/tiny", fields), recorder)
    held_out = run.metrics["held_out"]
    pictures = load_pictures("twemoji", 32, fields["data.classes"])
    learned, unseen = pictures.split(0.1)
    mean = learned.to_float().mean(dim=0)
    errors = ((unseen.to_float() - mean) / 2).square().mean(dim=(1, 2, 3))
    baseline = float((-10 * errors.log10()).mean())
    assert held_out["psnr"] > baseline + 2
    assert held_out["usage"] > 0.5
