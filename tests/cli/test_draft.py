"""`limner sample --draft`."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.seeds import seeded
from limner.decoding.speculation import Speculative
from limner.heads.diffusion import DiffusionConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MAR, MARConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
)
from tests.cli.conftest import Command, pixels

STEPS = 8


def pipeline(width: int = 16, seed: int = 0, fitted: int = 0, names=("fox", "cat")) -> Pipeline:
    """A small pipeline with a diffusion head; `fitted`: seed of its tokenizer."""
    tokenizer = PatchContinuous(PatchContinuousConfig(width=4))
    rng = torch.Generator().manual_seed(fitted)
    tokenizer.fit(torch.rand(8, 3, 16, 16, generator=rng) * 2 - 1, seeded(0, "fit"))
    torch.manual_seed(seed)
    stack = StackConfig(width, 1, 2)
    head = DiffusionConfig(16, 1, "ddim4")
    config = MARConfig(stack, stack, head, 16, 4, classes=len(names), buffer=2, steps=STEPS)
    return Pipeline(tokenizer, MAR(config), names, size=(16, 16))


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Of a target and a draft that is the same."""
    made = tmp_path_factory.mktemp("pipelines")
    for name in ("target", "draft"):
        pipeline().save_pretrained(made / name)
    return made / "target", made / "draft"


def test_a_draft_saves_passes_and_the_picture_is_drawn_again(
    limner: Command, folders: tuple[Path, Path]
) -> None:
    target, draft = folders
    asked = ("sample", target, "--draft", draft, "--class", "fox", "--device", "cpu")
    ran = limner(*asked, "--no-preview")
    assert ran.code == 0
    said = ran.err.splitlines()[-1]
    passes = int(said.split()[1])
    assert 0 < passes < STEPS and "drafted tokens were accepted" in said
    again = limner("sample", "--from", "samples/fox-0.png", "--no-preview")
    assert again.code == 0 and "is not the same" not in again.err
    assert pixels(Path("samples/fox-0.png")) == pixels(Path("samples/fox-0-again.png"))


def test_a_draft_that_does_not_fit_is_refused(
    limner: Command, folders: tuple[Path, Path], tmp_path: Path
) -> None:
    target, _ = folders
    pipeline(fitted=1).save_pretrained(tmp_path / "other")
    ran = limner("sample", target, "--draft", tmp_path / "other", "--class", "fox")
    assert ran.code == 2 and "tokenizer=" in ran.err and "its latents are others" in ran.err
    ran = limner("sample", "--from", "x.png", "--draft", target)
    assert ran.code == 2 and "--draft is not accepted" in ran.err
    assert not Path("samples").exists()


def test_pipelines_take_drafts_of_their_own_kind_alone() -> None:
    drafted = pipeline().with_draft(pipeline(width=8, seed=1))
    assert isinstance(drafted.generator, Speculative)
    assert drafted(classes=["cat"], seed=3).pictures.shape == (1, 3, 16, 16)
    with pytest.raises(ConfigError, match="classes="):
        pipeline().with_draft(pipeline(names=("fox", "dog")))
    scales = PatchMultiScale(PatchMultiScaleConfig(width=4, codebook_size=8, scales=(1, 2, 4)))
    scales.fit(torch.rand(8, 3, 16, 16) * 2 - 1, seeded(0, "fit"))
    config = VARConfig(16, 1, 2, codebook_size=8, latent=4, classes=2, scales=(1, 2, 4))
    other = Pipeline(scales, VAR(config), ("fox", "cat"), size=(16, 16))
    with pytest.raises(ConfigError, match="its latents are others"):
        pipeline().with_draft(other)
    with pytest.raises(ConfigError, match="diffusion head"):
        other.with_draft(other)
