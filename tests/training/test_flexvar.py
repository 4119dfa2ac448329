"""What FlexVAR's parts learn on real pictures: every size is a picture, and every list will do."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.nn import functional

from limner.data import load_packaged
from limner.metrics.pixels import psnr
from limner.models.flexvar import FlexVAR
from limner.models.var import VAR
from limner.pipeline import Pipeline
from limner.tokenizers.flexvar_vq import FlexVARVQ
from limner.training import load_recipe, train


@pytest.mark.parametrize("sizes", [1, 3])
def test_a_tokenizer_of_several_sizes_trains(sizes: int, tmp_path: Path, recorder) -> None:
    config = {
        "convolution": {"channels": 32, "multipliers": [1, 1], "blocks": 1},
        "latent": 8,
        "codebook_size": 16,
        "codebook_width": 4,
        "scales": [1, 2, 4, 8, 10],
        "sizes": sizes,
    }
    fields = {
        "data.size": 20,
        "data.classes": ["Activities"],
        "tokenizer.config": config,
        "perceptual": None,
        "objective": {"start": 1, "discriminator": {"channels": 8, "depth": 1}},
        "budget.steps": 3,
        "budget.batch": 4,
        "evaluations": 1,
        "device": "cpu",
        "output": str(tmp_path),
    }
    run = train(load_recipe("flexvar/vq-tiny", fields), recorder)
    assert run.metrics["held_out"]["psnr"] > 0
    assert isinstance(run.part, FlexVARVQ)


@pytest.mark.slow
def test_every_size_that_was_trained_is_a_picture(tmp_path: Path, recorder) -> None:
    fields = {"budget.steps": 400, "evaluations": 2, "objective.adversarial": 0.0}
    recipe = load_recipe("flexvar/vq-tiny", {**fields, "output": str(tmp_path), "device": "cpu"})
    tokenizer = train(recipe, recorder).part
    assert isinstance(tokenizer, FlexVARVQ)
    pictures = load_packaged(size=32).to_float(slice(0, 1600, 8))
    tokens = tokenizer.encode(pictures)
    for segment, side in enumerate(tokenizer.config.scales):
        if side * tokenizer.factor < 16:
            continue
        small = functional.interpolate(pictures, side * tokenizer.factor, mode="area")
        with torch.no_grad():
            shown = tokenizer.show_scale(tokens, segment).clamp(-1, 1)
        still = psnr(small.mean(0).expand_as(small), small).mean()
        assert psnr(shown, small).mean() > still + 3, side


@pytest.mark.slow
def test_a_list_that_was_never_seen_is_predicted_as_well(tmp_path: Path, recorder) -> None:
    fields = {"budget.seconds": None, "budget.steps": 150, "sample.each": 0}
    recipe = load_recipe("flexvar/tiny", {**fields, "output": str(tmp_path), "device": "cpu"})
    pipeline = train(recipe, recorder).part
    assert isinstance(pipeline, Pipeline)
    model = pipeline.generator
    assert isinstance(model, FlexVAR)
    data = load_packaged(size=32)
    index = list(range(0, len(data), 16))
    tokens = pipeline.tokenizer.encode(data.to_float(index))
    condition = {"label": torch.as_tensor(data.labels)[index]}
    seen, unseen = model.config.usual, (1, 2, 3, 4, 5, 6, 7, 8)  # longer than any in training
    with torch.no_grad():
        losses = [
            float(VAR.loss(model, model.chosen(tokens, sides), condition).total)
            for sides in (seen, unseen)
        ]
    assert losses[1] < 1.15 * losses[0]
