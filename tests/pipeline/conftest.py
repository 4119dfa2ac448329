"""A pipeline as users hold it: a fitted tokenizer of 32 pixels and a tiny random generator."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.data import load_packaged
from limner.pipeline import Pipeline
from limner.tokenizers.patches import PatchKMeans, PatchKMeansConfig
from tests.pipeline.small import CLASSES, CODES, SIZE, generator


@pytest.fixture(scope="module")
def pictures() -> Tensor:
    """Float [24, 3, 32, 32]."""
    return load_packaged(size=SIZE).to_float(slice(0, 1200, 50))


@pytest.fixture(scope="module")
def tokenizer(pictures: Tensor) -> PatchKMeans:
    made = PatchKMeans(PatchKMeansConfig(patch=8, width=8, codebook_size=CODES))
    made.fit(pictures, torch.Generator().manual_seed(0))
    return made


@pytest.fixture(scope="module")
def pipeline(tokenizer: PatchKMeans) -> Pipeline:
    return Pipeline(tokenizer, generator(), CLASSES, (SIZE, SIZE))


@pytest.fixture(scope="module")
def captioned(tokenizer: PatchKMeans) -> Pipeline:
    return Pipeline(tokenizer, generator("caption"), size=(SIZE, SIZE))


@pytest.fixture(scope="module")
def folder(pipeline: Pipeline, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where `pipeline` is saved; not to be changed."""
    path = tmp_path_factory.mktemp("saved") / "pipeline"
    pipeline.save_pretrained(path)
    return path
