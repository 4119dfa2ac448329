"""Subjects: our sides run, and what a step computes is counted right."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from limner.bench.official import fill, official_module
from limner.bench.settings import BenchError, Settings
from limner.bench.subject import load_subject
from limner.bench.subjects import (
    sample_llamagen,
    subject_module,
    tokenize_llamagen_vq,
    train_llamagen,
)
from limner.bench.work import Convolution, Product
from limner.core.registry import MODELS, TOKENIZERS
from limner.layers.convolution import ConvolutionConfig
from limner.models.llamagen import LlamaGenConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQConfig


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Of a small model and a small tokenizer that share a name."""
    for registry in (MODELS, TOKENIZERS):
        registry.variants()  # all are registered before one is added
        monkeypatch.setattr(registry, "_variants", dict(registry._variants))
    config = LlamaGenConfig(32, 2, 2, codebook_size=64, classes=5, multiple_of=16)
    MODELS.variant("llamagen-small", "llamagen", config)
    convolution = ConvolutionConfig(channels=32, multipliers=(1, 1, 1, 1, 2), blocks=1)
    small = LlamaGenVQConfig(convolution, latent=8, codebook_size=32, codebook_width=4)
    TOKENIZERS.variant("llamagen-small", "llamagen-vq", small)
    return Settings("llamagen-small", batch=2)


def test_subjects_are_found_by_task_and_model() -> None:
    module = subject_module("train", "llamagen-xl")
    assert module.endswith("train_llamagen")
    assert load_subject(module) is train_llamagen.SUBJECT
    assert subject_module("tokenize", "llamagen-vq-8").endswith("tokenize_llamagen_vq")
    with pytest.raises(BenchError, match="'xar-b' is not accepted: train is measured for llamagen"):
        subject_module("train", "xar-b")


def test_a_step_learns_and_the_answer_depends_on_the_weights_alone(settings: Settings) -> None:
    sides = [train_llamagen.ours(settings) for _ in range(2)]
    first, second = (side.answer() for side in sides)
    assert first == second and first[0] > 1
    for _ in range(3):
        sides[0].step()
    assert sides[0].answer()[0] < first[0]


def test_the_products_of_a_training_step_are_counted(settings: Settings) -> None:
    side = train_llamagen.ours(settings)
    with FlopCounterMode(display=False) as counter:
        side.step()
    times = train_llamagen.work(settings).times
    # the counter passes over attention, and over products that are added in place
    added = Product(64, 2 * 256, 32).flops
    products = sum(n * op.flops for op, n in times.items() if op.batch == 1)  # type: ignore[union-attr]
    assert counter.get_total_flops() + added == products
    # 2 layers, 2 pictures, 2 heads; two products forward, four backward, half of each
    attention = sum(n * op.flops for op, n in times.items() if op.batch > 1)  # type: ignore[union-attr]
    assert attention == 2 * 2 * 2 * 6 * (2 * 256 * 256 * 16) / 2


def test_all_of_encoding_is_counted(settings: Settings) -> None:
    side = tokenize_llamagen_vq.ours(settings)
    with FlopCounterMode(display=False) as counter:
        answer = side.answer()
    assert len(answer) == 2 * 256 and len(set(answer)) > 1
    assert counter.get_total_flops() == tokenize_llamagen_vq.work(settings).flops


def test_every_picture_is_drawn_in_either_precision(settings: Settings) -> None:
    first = sample_llamagen.ours(settings).answer()
    assert len(first) == 2 * 256 and len(set(first[:256])) > 1
    rounded = sample_llamagen.ours(replace(settings, precision="int8"))
    assert rounded.answer() != first


def test_weights_and_what_is_kept_are_read_for_every_token(settings: Settings) -> None:
    done = sample_llamagen.work(settings)
    model = MODELS.create("llamagen-small")
    blocks = sum(p.numel() for p in model.blocks.parameters()) + 32 + 32 * 64
    kept = 4 * 2 * 32 * 2 * 4  # keys and values of 2 layers and 4 rows
    assert done.read == 256 * 4 * blocks + sum(range(1, 257)) * kept
    assert done.flops == 256 * 2 * 4 * (blocks - 5 * 32)  # all but the norms
    rounded = sample_llamagen.work(replace(settings, precision="int8"))
    assert done.read - rounded.read == 256 * 3 * blocks
    assert sample_llamagen.SUBJECT.tokens is not None
    assert sample_llamagen.SUBJECT.tokens(settings) == 512


def test_models_that_are_not_asked_by_class_are_refused() -> None:
    with pytest.raises(BenchError, match="must be asked by class"):
        train_llamagen.work(Settings("llamagen-t2i-xl"))


def test_operations_are_counted_by_hand() -> None:
    assert Product(2, 3, 5, batch=7).flops == 2 * 7 * 2 * 3 * 5
    assert Convolution(2, 3, 5, 8, 4, kernel=1).flops == 2 * 2 * 8 * 4 * 3 * 5
    assert Convolution(2, 3, 5, 8, 4).flops == 9 * Convolution(2, 3, 5, 8, 4, kernel=1).flops


def test_weights_depend_on_seed_and_name() -> None:
    def filled(seed: int) -> dict[str, torch.Tensor]:
        state = {"norm.weight": torch.empty(500), "norm.bias": torch.empty(500)}
        state |= {"a.weight": torch.empty(100, 400), "b.weight": torch.empty(100, 400)}
        fill(state, seed)
        return state

    first, again, other = filled(0), filled(0), filled(1)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["a.weight"], first["b.weight"])
    assert not torch.equal(first["a.weight"], other["a.weight"])
    assert first["a.weight"].std().item() == pytest.approx(1 / 20, rel=0.05)
    assert first["norm.weight"].mean().item() == pytest.approx(1, abs=0.05)
    assert first["norm.bias"].mean().item() == pytest.approx(0, abs=0.05)


def test_official_code_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(BenchError, match=r"it holds no gpt\.py"):
        official_module(str(tmp_path), "autoregressive.models.gpt")
    (tmp_path / "needy.py").write_text("import no_such_package")
    with pytest.raises(BenchError, match="no_such_package"):
        official_module(str(tmp_path), "needy")
