"""Pipelines that are saved, found again, and broken; their numbers."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from limner.core.errors import CheckpointError, ConfigError
from limner.models.llamagen import LlamaGen, LlamaGenConfig
from limner.pipeline import Pipeline
from limner.tokenizers.patches import PatchKMeans
from tests.pipeline.small import CLASSES, CODES, SIZE, ids


def test_a_saved_pipeline_draws_the_same_pictures_bit_for_bit(
    pipeline: Pipeline, folder: Path
) -> None:
    again = Pipeline.from_pretrained(folder)
    assert again.classes == CLASSES
    assert again.size == (SIZE, SIZE)
    wanted = pipeline(classes=["Oak", 3], seed=5, guidance=2.0, top_p=0.9)
    found = again(classes=["Oak", 3], seed=5, guidance=2.0, top_p=0.9)
    assert torch.equal(found.pictures, wanted.pictures)
    assert torch.equal(ids(found), ids(wanted))
    assert found.settings == wanted.settings


def test_the_pipeline_of_what_was_made_is_found(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "generator")
    (tmp_path / "log.jsonl").write_text("{}\n")
    found = Pipeline.from_pretrained(tmp_path)(classes=[0]).pictures
    assert torch.equal(found, Pipeline.from_pretrained(str(folder))(classes=[0]).pictures)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        (None, "limner.json is missing"),
        ("[]", "mapping"),
        ({"limner": 2}, "format 2: known: 1"),
        ({"classes": None}, "classes must be a list"),
        ({"size": ["32", "32"]}, "size must be a list"),
        ({"size": [32, 32, 32]}, "height and width"),
    ],
)
def test_a_broken_index_is_named(folder: Path, tmp_path: Path, index: Any, message: str) -> None:
    path = tmp_path / "broken"
    shutil.copytree(folder, path)
    file = path / "limner.json"
    if isinstance(index, dict):
        file.write_text(json.dumps(json.loads(file.read_text()) | index))
    elif isinstance(index, str):
        file.write_text(index)
    else:
        file.unlink()
    with pytest.raises(CheckpointError, match=message):
        Pipeline.from_pretrained(path)


def test_a_missing_part_is_named(folder: Path, tmp_path: Path) -> None:
    shutil.copytree(folder, tmp_path / "part")
    (tmp_path / "part" / "model" / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        Pipeline.from_pretrained(tmp_path / "part")
    with pytest.raises(CheckpointError, match="nowhere"):
        Pipeline.from_pretrained(tmp_path / "nowhere")


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_the_generator_takes_a_dtype_and_pictures_stay_float32(
    folder: Path, dtype: torch.dtype
) -> None:
    loaded = Pipeline.from_pretrained(folder, dtype=dtype, device="cpu")
    cast = Pipeline.from_pretrained(folder).to("cpu", dtype)
    for each in (loaded, cast):
        assert {weight.dtype for weight in each.generator.parameters()} == {dtype}
        kept = each.tokenizer.state_dict().values()
        assert {tensor.dtype for tensor in kept if tensor.is_floating_point()} == {torch.float32}
    drawn = [each(classes=[1, 2], guidance=2.0, seed=3) for each in (loaded, cast)]
    assert drawn[0].pictures.dtype == torch.float32
    assert torch.equal(drawn[0].pictures, drawn[1].pictures)


def test_parts_with_other_codes_are_refused(tokenizer: PatchKMeans) -> None:
    other = LlamaGen(LlamaGenConfig(width=16, depth=1, heads=2, codebook_size=CODES + 1))
    with pytest.raises(ConfigError, match=f"codebook_size={CODES + 1} .* has {CODES} codes"):
        Pipeline(tokenizer, other)
