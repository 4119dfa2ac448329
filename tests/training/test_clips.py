"""Generators and tokenizers of clips are trained by the same loop, on films and moving drawings."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from limner.core.errors import DataError
from limner.data import open_clips
from limner.pipeline import Pipeline
from limner.show import save_clip
from limner.training import Recipe, TokenizerRecipe, load_recipe, train
from limner.training.tokenizer_task import frames_of

SMALL: dict[str, Any] = {
    "data.size": 16,
    "data.frames": 4,
    "data.classes": ["Activities"],
    "data.views": {"kind": "shifted", "shift": 1, "flip": 0.5, "count": 2},
    "budget": {"steps": 2, "batch": 8},
    "evaluations": 1,
    "device": "cpu",
    "sample.each": 1,
}
STACK = {"width": 64, "depth": 1, "heads": 1}
MODELS: dict[str, dict[str, Any]] = {
    "nar": {"width": 16, "depth": 1, "heads": 2, "multiple_of": 8},
    "nbp": {"stack": {"width": 16, "depth": 1, "heads": 2}, "block": 16},
    "ar-diffusion": {"stack": STACK, "steps": 4, "lag": 1},
    "acdit": {"stack": STACK, "block": 4, "head": {"steps": 2}},
}


@pytest.mark.parametrize("system", MODELS)
def test_the_small_recipes_train_on_clips(system: str, recorder: Any, tmp_path: Path) -> None:
    fields = SMALL | {f"model.config.{name}": value for name, value in MODELS[system].items()}
    if system in ("nar", "nbp"):
        fields["tokenizer.config.codebook_size"] = 32
    fields["output"] = str(tmp_path / "run")
    recipe = load_recipe(f"{system}/clip-tiny", fields)
    assert isinstance(recipe, Recipe)
    run = train(recipe, recorder)
    assert run.metrics["steps"] == 2 and run.metrics["held_out"]["loss"] > 0
    loaded = Pipeline.from_pretrained(run.directory)
    assert loaded.frames == 4 and loaded.classes == ("Activities",)
    drawn = loaded(classes=["Activities"], seed=1)
    assert drawn.pictures.shape == (1, 4, 3, 16, 16)
    with Image.open(run.directory / "samples.png") as sheet:
        assert sheet.size == (4 * 16 + 4, 16 + 4)


def test_clips_are_learned_and_drawn_without_classes(recorder: Any, tmp_path: Path) -> None:
    fields = SMALL | {f"model.config.{n}": value for n, value in MODELS["ar-diffusion"].items()}
    fields |= {"model.config.classes": 0, "sample.each": 2, "output": str(tmp_path / "run")}
    run = train(load_recipe("ar-diffusion/clip-tiny", fields), recorder)
    with Image.open(run.directory / "samples.png") as sheet:
        assert sheet.size == (2 * (4 * 16 + 2) + 2, 16 + 4)


def test_a_tokenizer_of_clips_learns_beside_its_baseline(recorder: Any, tmp_path: Path) -> None:
    config = {"widths": [8, 16, 16], "groups": 8, "frames": 5}
    kept = ("budget", "evaluations", "device", "data.size", "data.classes")
    fields = {name: SMALL[name] for name in kept}
    fields |= {"data.frames": 5, "data.views": {"kind": "random"}, "shown": 3}
    fields |= {"tokenizer.config": config, "output": str(tmp_path / "run"), "perceptual": None}
    recipe = load_recipe("nbp/fsq-tiny", fields)
    assert isinstance(recipe, TokenizerRecipe)
    run = train(recipe, recorder)
    held_out = run.metrics["held_out"]
    train_set, held = open_clips("moving-twemoji", recipe.data.window, ["Activities"]).split(0.1)
    assert run.part.config.frames == 5 and len(train_set) > len(held) > 0
    assert held_out["psnr"] > 0 and 10 < held_out["psnr_mean_frame"] < 40
    assert "the mean frame repeated" in recorder.said[-1]
    with Image.open(run.directory / "samples.png") as sheet:
        assert sheet.size == (5 * 16 + 4, 6 * 18 + 2)  # three clips above their reconstructions


def test_a_folder_of_films_is_learned_from(recorder: Any, tmp_path: Path) -> None:
    for name in ("slow", "fast"):
        (tmp_path / "films" / name).mkdir(parents=True)
        for number in range(4):
            step = 5 if name == "slow" else 20
            frames = [Image.new("RGB", (16, 16), (t * step, 40 * number, 90)) for t in range(8)]
            save_clip(frames, tmp_path / "films" / name / f"{number}.gif")
    (tmp_path / "films" / "fast" / "broken.gif").write_bytes(b"no film")
    small = {f"model.config.{name}": value for name, value in MODELS["acdit"].items()}
    fields = SMALL | small | {"data.source": str(tmp_path / "films"), "data.classes": None}
    fields |= {"data.held_out": 0.3, "output": str(tmp_path / "run"), "sample.each": 0}
    with pytest.raises(DataError, match=r"1 of 9 videos .*broken.gif.*more than 5%"):
        train(load_recipe("acdit/clip-tiny", fields | {"data.unreadable": 0.05}), recorder)
    run = train(load_recipe("acdit/clip-tiny", fields | {"data.unreadable": 0.2}), recorder)
    assert run.pipeline.classes == ("fast", "slow")


def test_frames_of_clips_are_pictures() -> None:
    clips = torch.randn(2, 3, 1, 4, 4)
    assert torch.equal(frames_of(clips)[4], clips[1, 1])
    assert frames_of(clips[0]) is clips[0] or torch.equal(frames_of(clips[0]), clips[0])
