"""Subjects whose sides are limner's own, and the counting that their ceilings rest on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from limner.bench.comparison import agree
from limner.bench.counting import counted
from limner.bench.settings import BenchError, Settings
from limner.bench.subjects import (
    anneal_mar,
    cache_pipeline,
    sample_distilled,
    sample_mar,
    sample_nar,
    sample_var,
    speculate_pipeline,
    subject_module,
    train_var,
)
from limner.bench.work import Convolution, Product
from limner.bench.worker import serve
from limner.cli.command import main
from limner.core.errors import ConfigError
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.seeds import seeded
from limner.heads.diffusion import DiffusionConfig
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.models.distilled_var import DistilledVARConfig
from limner.models.llamagen import LlamaGenConfig
from limner.models.mar import MAR, MARConfig
from limner.models.nar import NARConfig
from limner.models.var import VAR, VARConfig
from limner.pipeline import Pipeline
from limner.tokenizers.llamagen_vq import LlamaGenVQConfig
from limner.tokenizers.patches import (
    PatchContinuous,
    PatchContinuousConfig,
    PatchMultiScale,
    PatchMultiScaleConfig,
)
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig
from limner.tokenizers.var_vqvae import VARVQVAEConfig

SCALES = (1, 2, 3, 4)
STACK = StackConfig(16, 1, 2)


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small variants of all that is measured, under names of their own."""
    for registry in (MODELS, TOKENIZERS):
        registry.variants()  # all are registered before one is added
        monkeypatch.setattr(registry, "_variants", dict(registry._variants))
    raster = LlamaGenConfig(32, 2, 2, codebook_size=64, classes=5, multiple_of=16)
    size = {"width": 32, "depth": 2, "heads": 2, "codebook_size": 64, "latent": 32, "classes": 5}
    MODELS.variant("llamagen-small", "llamagen", raster)
    MODELS.variant("nar-small", "nar", NARConfig(32, 2, 2, codebook_size=64, classes=5))
    MODELS.variant("var-small", "var", VARConfig(**size, scales=SCALES))
    student = DistilledVARConfig(**size, scales=SCALES, split=2, jumps=(0, 2))
    MODELS.variant("distilled-var-small", "distilled-var", student)
    mar = MARConfig(STACK, STACK, DiffusionConfig(16, 1, "8"), 16, 4, classes=3, buffer=2)
    MODELS.variant("mar-small", "mar", mar)
    convolution = ConvolutionConfig(channels=32, multipliers=(1, 1), blocks=1)
    several = MultiScaleConfig(codebook_size=64, width=32)
    TOKENIZERS.variant("var-vqvae", "var-vqvae", VARVQVAEConfig(convolution, several, SCALES))
    grid = LlamaGenVQConfig(convolution, latent=8, codebook_size=64, codebook_width=4)
    TOKENIZERS.variant("llamagen-vq-16", "llamagen-vq", grid)
    monkeypatch.setattr(sample_nar, "SIDE", 4)
    monkeypatch.setattr(sample_nar, "FACTOR", 2)
    monkeypatch.setattr(sample_distilled, "SIDE", 8)


def folder(path: Path, depth: int) -> str:
    """Write a small pipeline that draws scale by scale; return its folder."""
    torch.manual_seed(0)
    tokenizer = PatchMultiScale(PatchMultiScaleConfig(width=8, codebook_size=16))
    tokenizer.fit(torch.rand(8, 3, 32, 32) * 2 - 1, seeded(0, "fit"))
    sizes = {"width": 16, "depth": depth, "heads": 1, "codebook_size": 16, "latent": 8}
    config = VARConfig(**sizes, classes=2, scales=(1, 2, 3, 4, 6, 8), gate_gain=1.0)
    Pipeline(tokenizer, VAR(config), ("fox", "cat"), size=(32, 32)).save_pretrained(path)
    return str(path)


def masked_folder(path: Path, width: int = 16, seed: int = 0) -> str:
    """Write a small pipeline with a diffusion head; return its folder."""
    torch.manual_seed(seed)
    tokenizer = PatchContinuous(PatchContinuousConfig(width=4))
    tokenizer.fit(torch.rand(8, 3, 16, 16) * 2 - 1, seeded(0, "fit"))
    stack = StackConfig(width, 1, 2)
    config = MARConfig(stack, stack, DiffusionConfig(16, 1, "ddim4"), 16, 4, classes=2, buffer=2)
    Pipeline(tokenizer, MAR(config), ("fox", "cat"), size=(16, 16)).save_pretrained(path)
    return str(path)


def test_what_a_step_computes_is_counted() -> None:
    layer = torch.nn.Conv2d(3, 5, 3, padding=1, stride=2)
    query = torch.randn(2, 4, 10, 8)

    def step() -> None:
        torch.randn(6, 4) @ torch.randn(4, 7)
        torch.nn.functional.linear(torch.randn(2, 3, 4), torch.randn(5, 4), torch.zeros(5))
        torch.bmm(torch.randn(3, 2, 4), torch.randn(3, 4, 5))
        layer(torch.randn(1, 3, 8, 8))
        torch.nn.functional.scaled_dot_product_attention(query, query, query)

    with torch.no_grad(), FlopCounterMode(display=False) as official:
        step()
    with torch.no_grad():
        done = counted(step)
    assert done.times[Product(6, 4, 5)] == 1 and done.times[Product(6, 4, 7)] == 1
    assert done.times[Product(2, 4, 5, batch=3)] == 1
    assert done.times[Convolution(1, 3, 5, 4, 4, stride=2)] == 1
    assert done.times[Product(10, 8, 10, batch=8)] == 1
    attention = 2 * Product(10, 8, 10, batch=8).flops
    assert done.flops - attention == official.get_total_flops()
    assert done.read == 0 and counted(lambda: torch.ones(2, 4) @ torch.ones(4, 9), True).read == 144


def test_a_drawing_of_all_scales_is_counted_and_the_same_again() -> None:
    settings = Settings("var-small", batch=2)
    side = sample_var.ours(settings)
    first = side.answer()  # type: ignore[misc]
    assert len(first) == 2 * 30 and len(set(first)) > 1
    assert sample_var.ours(settings).answer() == first  # type: ignore[misc]
    assert set(side.step()) == {"tokens", "pixels"}
    done = sample_var.work(settings)
    # of the largest scale, two rows a picture: queries, keys and values of both layers
    assert done.times[Product(4 * 16, 32, 3 * 32)] == 2
    assert sample_var.SUBJECT.tokens is not None and sample_var.SUBJECT.tokens(settings) == 60


def test_scales_that_are_no_squares_are_refused() -> None:
    MODELS.variant("var-wide", "var", VARConfig(32, 2, 2, scales=(1, (2, 4))))
    with pytest.raises(BenchError, match="must be squares"):
        sample_var.work(Settings("var-wide"))


def test_a_step_of_training_learns() -> None:
    side = train_var.ours(Settings("var-small", batch=2))
    assert side.answer is not None
    before = side.answer()
    for _ in range(3):
        side.step()
    assert side.answer()[0] < before[0]
    done = train_var.work(Settings("var-small", batch=2))
    assert done.bytes > 0
    # forward, and the gradient of the input, of both layers' first map of the MLP
    assert done.times[Product(60, 32, 128)] >= 2


def test_masked_drawing_agrees_with_itself_and_takes_the_steps_it_is_told() -> None:
    settings = Settings("mar-small", batch=2, drawing_steps=3, head_steps=4)
    first, again = (sample_mar.ours(settings).answer() for _ in range(2))  # type: ignore[misc]
    assert len(first) == 2 * 16 * 4
    assert agree(first, again, 0, 1.0).difference == 0
    more = Settings("mar-small", batch=2, drawing_steps=3, head_steps=8)
    assert sample_mar.work(more).flops > sample_mar.work(settings).flops
    assert sample_mar.drawing_steps(Settings("mar-small")) == 16


def test_annealing_saves_passes_of_both_networks() -> None:
    settings = Settings("mar-small", batch=1, annealing="4-2", drawing_steps=6)
    ours, published = anneal_mar.ours(settings), anneal_mar.baseline(settings)
    ours.step(), published.step()
    assert ours.facts is not None and published.facts is not None
    assert ours.facts()["network passes"] == published.facts()["network passes"] == 6
    assert ours.facts()["head passes"] < published.facts()["head passes"] == 6 * 8
    assert anneal_mar.name(settings) == "6 x 8 steps"


def test_some_steps_stand_for_all() -> None:
    settings = Settings("mar-small", batch=1, annealing="4-4", drawing_steps=12, measured=3)
    side = anneal_mar.ours(settings)
    side.step()
    assert side.stands_for == 4 and side.facts is not None
    assert side.facts()["network passes"] == 12
    with pytest.raises(ConfigError, match="measured=13 is not accepted"):
        anneal_mar.ours(Settings("mar-small", drawing_steps=12, measured=13))


def test_diagonals_take_fewer_passes_than_the_raster() -> None:
    settings = Settings("nar-small", batch=1)
    ours, raster = sample_nar.ours(settings), sample_nar.baseline(settings)
    ours.step(), raster.step()
    assert ours.facts is not None and raster.facts is not None
    assert (ours.facts()["network passes"], raster.facts()["network passes"]) == (7, 16)
    assert sample_nar.raster_name(settings) == "llamagen-small"


def test_a_student_draws_in_one_pass() -> None:
    settings = Settings("distilled-var-small", batch=1)
    student, teacher = sample_distilled.ours(settings), sample_distilled.baseline(settings)
    student.step(), teacher.step()
    assert student.facts is not None and teacher.facts is not None
    assert (student.facts()["network passes"], teacher.facts()["network passes"]) == (1, 4)


def test_a_share_of_keys_and_values_is_told_with_what_it_changes(tmp_path: Path) -> None:
    settings = Settings(folder(tmp_path / "scales", depth=2), batch=1, share=0.25)
    ours, whole = cache_pipeline.ours(settings), cache_pipeline.baseline(settings)
    ours.step(), whole.step()
    assert ours.facts is not None and whole.facts is not None
    kept, all_of_it = (side.facts()["bytes of keys and values"] for side in (ours, whole))
    assert 0 < kept < 0.3 * all_of_it
    assert ours.facts()["PSNR to all, in dB"] > 0
    assert subject_module("cache", settings.model).endswith("cache_pipeline")


def test_a_draft_saves_passes_of_the_target(tmp_path: Path) -> None:
    target, draft = masked_folder(tmp_path / "target"), masked_folder(tmp_path / "draft")
    settings = Settings(target, batch=1, beside=draft, drawing_steps=8)
    ours, alone = speculate_pipeline.ours(settings), speculate_pipeline.baseline(settings)
    ours.step(), alone.step()
    assert ours.facts is not None and alone.facts is not None
    # the same weights: every draft is accepted
    assert ours.facts()["share of drafts accepted"] == 1
    assert ours.facts()["target passes"] < alone.facts()["target passes"] == 8
    with pytest.raises(BenchError, match="beside is missing"):
        speculate_pipeline.ours(Settings(target))


def test_a_worker_tells_parts_and_facts() -> None:
    given = {
        "subject": "limner.bench.subjects.sample_nar",
        "side": "baseline",
        "checkout": "",
        "settings": {"model": "nar-small", "batch": 1},
    }
    said: list[str] = []

    def ask(*requests: str) -> list[dict]:
        import io

        said.clear()
        serve(json.dumps(given), io.StringIO("\n".join(requests)), said.append)
        return [json.loads(line) for line in said]

    name, step, facts = ask("baseline", "step", "facts")
    assert name == {"found": "llamagen-small"}
    assert set(step["found"]["parts"]) == {"tokens", "pixels"}
    assert sum(step["found"]["parts"].values()) <= step["found"]["seconds"]
    assert facts == {"found": {"network passes": 16}}
    given["side"] = "official"
    (refused,) = ask("step")
    assert "no official code does the same" in refused["error"]


@pytest.mark.slow
def test_the_command_measures_two_pipelines_and_writes_it_down(tmp_path: Path, capsys) -> None:
    model, file = folder(tmp_path / "scales", depth=2), tmp_path / "cache.json"
    asked = ["--model", model, "--batch", "1", "--steps", "1", "--warm-up", "0", "--threads", "1"]
    assert main(["bench", "cache", *asked, "--share", "0.25", "--json", str(file)]) == 0
    found = json.loads(file.read_text())
    assert found["baseline"]["name"] == "all of them kept"
    assert found["ratios"]["facts"]["bytes of keys and values"] > 3
    assert found["ceilings"]["seconds"] > 0 and "official" not in found
    assert "--share 0.25" in found["circumstances"]["command"]
    assert "bytes of keys and" in capsys.readouterr().out
