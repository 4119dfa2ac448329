"""Students learn from their teachers alone."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from limner.core.errors import ConfigError
from limner.data import load_packaged
from limner.layers.convolution import ConvolutionConfig
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.tokenizers.llamagen_vq import LlamaGenVQ, LlamaGenVQConfig
from limner.tokenizers.patches import PatchMultiScale, PatchMultiScaleConfig
from limner.training import train
from limner.training.recipe_files import load_recipe

SCALES = (1, 2)


@pytest.fixture(scope="module")
def teacher(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "var"
    tokenizer = PatchMultiScale(PatchMultiScaleConfig(4, width=4, codebook_size=8, scales=SCALES))
    pictures = load_packaged(size=8).to_float(slice(0, 1200, 40))
    tokenizer.fit(pictures, torch.Generator().manual_seed(0))
    torch.manual_seed(0)
    config = VARConfig(32, 2, 2, 8, latent=4, classes=2, scales=SCALES, gate_gain=1.0)
    model = VAR(config)
    torch.nn.init.normal_(model.output.weight, std=0.15)
    Pipeline(tokenizer, model, ("Fox", "Oak"), (8, 8)).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("teacher") / "llamagen"
    torch.manual_seed(0)
    convolution = ConvolutionConfig(channels=32, multipliers=(1, 1, 1), blocks=1)
    tokenizer = LlamaGenVQ(LlamaGenVQConfig(convolution, 32, 8, 4))
    config = LlamaGenConfig(16, 1, 2, 8, classes=2, multiple_of=8, dropout=0.0)
    model = LlamaGen(config)
    torch.nn.init.normal_(model.output.weight, std=0.3)
    Pipeline(tokenizer, model, ("Fox", "Oak"), (8, 8)).save_pretrained(folder)
    return folder


def recipe(teacher: Path, folder: Path, **changes: object) -> Path:
    lines = {
        "teacher": str(teacher),
        "jumps": "[0]",
        "split": 1,
        "pairs": 64,
        "held_out": 16,
        "optimizer": "{lr: 1e-3}",
        "budget": "{steps: 4, batch: 16}",
        "evaluations": 1,
        "sample": "{each: 1}",
        "device": "cpu",
        "output": str(folder),
        **changes,
    }
    path = folder.parent / "recipe.yaml"
    path.write_text("".join(f"{name}: {value}\n" for name, value in lines.items()))
    return path


def test_a_run_makes_a_pipeline_that_draws_in_one_step(teacher: Path, tmp_path: Path) -> None:
    run = train(load_recipe(recipe(teacher, tmp_path / "run")))
    assert 0 <= run.metrics["held_out"]["token_error"] <= 1
    pairs = load_file(tmp_path / "run" / "pairs.safetensors")
    assert pairs["ids"].shape == (80, 5)
    passes: list[int] = []
    pipeline = Pipeline.from_pretrained(tmp_path / "run")
    pipeline.generator.register_forward_hook(lambda *_: passes.append(1))
    result = pipeline(classes=["Fox", "Oak"], seed=3)
    assert result.pictures.shape == (2, 3, 8, 8) and len(passes) == 1


def test_students_of_llamagen_jump_as_often_as_is_asked(llama: Path, tmp_path: Path) -> None:
    train(load_recipe(recipe(llama, tmp_path / "run", jumps="[0, 2]", split=2)))
    passes: list[int] = []
    pipeline = Pipeline.from_pretrained(tmp_path / "run")
    pipeline.generator.register_forward_hook(lambda *_: passes.append(1))
    pictures = [pipeline(classes=["Oak"], steps=steps).pictures for steps in (1, 2)]
    assert len(passes) == 3 and pictures[0].shape == (1, 3, 8, 8)


def test_jumps_that_a_student_cannot_make_are_refused(teacher: Path, tmp_path: Path) -> None:
    path = recipe(teacher, tmp_path / "run", jumps="[0, 5]")
    with pytest.raises(ConfigError, match="jumps"):
        train(load_recipe(path))


@pytest.mark.slow
def test_students_learn_the_map_and_not_just_the_codes(teacher: Path, tmp_path: Path) -> None:
    changes = {"pairs": 1024, "held_out": 128, "budget": "{steps: 300, batch: 64}"}
    run = train(load_recipe(recipe(teacher, tmp_path / "run", **changes)))
    ids = load_file(tmp_path / "run" / "pairs.safetensors")["ids"].long()
    likeliest = ids[:1024].mode(0).values
    missed = float((ids[1024:] != likeliest).double().mean())
    assert missed > 0.1 and run.metrics["held_out"]["token_error"] < 0.6 * missed
