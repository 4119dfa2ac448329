"""A tiny pipeline that draws within milliseconds, for tests of whatever is above the pipeline."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch

from limner.data import load_packaged
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.pipeline import Pipeline
from limner.tokenizers.patches import PatchKMeans, PatchKMeansConfig

SIZE = 16

# the same bits on every processor, as of the reference cases: see limner/cli/verify.py
os.environ.setdefault("MKL_CBWR", "COMPATIBLE")

# tests compute little: a second thread costs more than it helps, and much more on busy machines
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tiny_pipeline() -> Pipeline:
    """Two classes, 16 x 16 pixels, 16 tokens; a fitted tokenizer and an untrained generator."""
    pictures = load_packaged(size=SIZE)
    pictures = pictures.only(pictures.classes[:2])
    rng = torch.Generator().manual_seed(0)
    tokenizer = PatchKMeans(PatchKMeansConfig(patch=4, width=8, codebook_size=32))
    tokenizer.fit(pictures.to_float()[:64], rng)
    generator = LlamaGen(
        LlamaGenConfig(width=32, depth=1, heads=2, codebook_size=32, classes=2, multiple_of=16)
    )
    with torch.no_grad():  # fresh weights draw every code alike, whatever the class
        for weight in generator.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=rng))
    return Pipeline(tokenizer, generator, pictures.classes, (SIZE, SIZE))


@pytest.fixture(scope="session")
def tiny_pipeline_folder(tiny_pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny pipeline as `save_pretrained` writes it; not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "pipeline"
    tiny_pipeline.save_pretrained(folder)
    return folder
