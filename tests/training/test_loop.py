"""A run: repeatable, keeps its best state, ends in good order whatever happens."""

from __future__ import annotations

import io
import json
import signal
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from limner.core.errors import ConfigError
from limner.core.head import LossBreakdown
from limner.models.llamagen import LlamaGen
from limner.pipeline import Pipeline
from limner.show.clock import clock
from limner.training import Moment, Recipe, load_recipe, train
from limner.training.generator_task import GeneratorTask
from limner.training.learner import TrainingError
from limner.training.progress import Lines
from limner.training.task import Measured

Small = Callable[..., Recipe]


def weights(folder: Path) -> bytes:
    return (folder / "model" / "model.safetensors").read_bytes()


def log(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def test_two_runs_of_steps_are_the_same_to_the_bit(small: Small, recorder, tmp_path: Path) -> None:
    def run(name: str, seed: int) -> Path:
        torch.rand(3)  # whatever was drawn before does not matter
        fields = {"output": str(tmp_path / name), "seed": seed, "ema": 0.9}
        return train(small(fields), recorder).directory

    first, second, other = run("a", 0), run("b", 0), run("c", 1)
    assert weights(first) == weights(second) != weights(other)


def test_a_run_leaves_everything_needed_to_use_and_repeat_it(small: Small, recorder) -> None:
    recipe = small({"sample.each": 2, "budget.steps": 40, "optimizer.lr": 1e-2})
    run = train(recipe, recorder)
    assert load_recipe(run.directory / "recipe.yaml") == recipe
    assert (run.directory / "samples.png").is_file()
    assert recorder.closed and "parameters" in recorder.said[0]

    metrics = json.loads((run.directory / "metrics.json").read_text())
    assert metrics == run.metrics
    assert metrics["steps"] == 40
    assert metrics["held_out"]["bits_per_token"] < 3.5  # 4 bits: nothing was learned
    assert set(metrics["baseline_bits_per_token"]) == {"unigram", "bigram"}

    loaded = Pipeline.from_pretrained(run.directory)
    assert loaded.classes == ("Activities", "Food & Drink")
    assert len(loaded(classes=["Activities"], seed=0).images) == 1
    assert not list(run.directory.rglob(".*")), "temporary files are left"


def test_the_log_tells_the_course_of_the_run(small: Small, recorder) -> None:
    run = train(small({"budget.steps": 24}), recorder)
    lines = log(run.directory)
    assert [line["step"] for line in lines if "held_out" in line] == [0, 8, 16, 24]
    assert lines[-1]["share"] == 1.0
    assert [line["step"] for line in lines] == [m.step for m in recorder.moments]
    rates = [line["lr"] for line in lines[1:]]
    assert rates == sorted(rates, reverse=True)
    assert {"examples_per_second", "memory", "cross_entropy"} <= lines[-1].keys()


@pytest.mark.parametrize(("choose", "kept"), [("best", 4), ("last", 12)])
def test_the_best_or_the_last_state_is_kept(
    small: Small, recorder, monkeypatch, choose: str, kept: int
) -> None:
    losses = iter([3.0, 1.0, 2.0, 4.0, 1.0])
    states = {}
    honest = GeneratorTask.measure

    def measured(task: GeneratorTask) -> Measured:
        step = len(states) * 4
        states[step] = task.network.output.weight.detach().clone()
        return replace(honest(task), loss=next(losses))

    monkeypatch.setattr(GeneratorTask, "measure", measured)
    run = train(small({"choose": choose}), recorder)
    assert run.metrics["best_step"] == kept
    assert torch.equal(run.pipeline.generator.output.weight, states[kept])
    assert not torch.equal(states[4], states[12])


def test_averaged_weights_are_what_is_measured_and_kept(small: Small, recorder) -> None:
    run = train(small({"ema": 0.99, "budget.steps": 12}), recorder)
    best = min(line["held_out"] for line in log(run.directory) if "held_out" in line)
    assert run.metrics["held_out"]["loss"] == pytest.approx(best, abs=1e-5)


def broken_from(step: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make LlamaGen's training loss nan from a step on."""
    honest, calls = LlamaGen.loss, []

    def loss(self: LlamaGen, tokens, condition, rng=None) -> LossBreakdown:
        given = honest(self, tokens, condition, rng)
        calls.extend([1] if rng is not None else [])
        nan = given.total * torch.nan
        return replace(given, total=nan) if rng is not None and len(calls) >= step else given

    monkeypatch.setattr(LlamaGen, "loss", loss)


def test_a_loss_that_is_not_finite_stops_the_run(small: Small, recorder, monkeypatch) -> None:
    broken_from(7, monkeypatch)
    recipe = small()
    with pytest.raises(
        TrainingError,
        match=r"nan at step 7 \(its batch: \w+, .*: lower .* of step 4, is kept; --resume",
    ):
        train(recipe, recorder)
    assert recorder.closed
    kept = Pipeline.from_pretrained(recipe.output).generator
    assert all(bool(tensor.isfinite().all()) for tensor in kept.state_dict().values())


def test_a_loss_that_grows_without_end_stops_the_run(small: Small, recorder, monkeypatch) -> None:
    honest, calls = LlamaGen.loss, []

    def loss(self: LlamaGen, tokens, condition, rng=None) -> LossBreakdown:
        given = honest(self, tokens, condition, rng)
        calls.extend([1] if rng is not None else [])
        return replace(given, total=given.total * (1 if len(calls) <= 20 else 40))

    monkeypatch.setattr(LlamaGen, "loss", loss)
    with pytest.raises(TrainingError, match=r"diverges: .* up to 30, more than 10 times"):
        train(small({"budget.steps": 60, "evaluations": 1}), recorder)


def test_ctrl_c_ends_a_run_in_good_order(small: Small, recorder, monkeypatch) -> None:
    honest, steps = GeneratorTask.pieces, []

    def pieces(task: GeneratorTask, step: int) -> list[object]:
        steps.append(step)
        if step == 5:
            signal.raise_signal(signal.SIGINT)
        return honest(task, step)

    monkeypatch.setattr(GeneratorTask, "pieces", pieces)
    before = signal.getsignal(signal.SIGINT)
    run = train(small(), recorder)
    assert signal.getsignal(signal.SIGINT) is before
    assert run.interrupted and run.metrics["steps"] == 6, "the step under way is finished"
    assert run.metrics["best_step"] == 4
    assert "stopped by hand" in recorder.said[-1] and "--resume" in recorder.said[-1]
    assert Pipeline.from_pretrained(run.directory)(classes=[0]).images
    assert run.metrics == json.loads((run.directory / "metrics.json").read_text())


def test_seconds_are_kept_to(small: Small, recorder) -> None:
    run = train(small({"budget.seconds": 0.5, "evaluations": 2}), recorder)
    assert 0.5 <= run.metrics["seconds"] < 5
    assert [m.held_out is None for m in recorder.moments].count(False) == 3
    assert recorder.moments[-1].share == 1.0


def test_a_run_starts_from_the_weights_of_another(small: Small, recorder, tmp_path: Path) -> None:
    first = train(small({"budget.steps": 40, "optimizer.lr": 1e-2}), recorder)
    fields = {
        "model.weights": str(first.directory),
        "tokenizer.weights": str(first.directory),
        "output": str(tmp_path / "second"),
        "budget.steps": 1,
        "optimizer.lr": 1e-9,
    }
    second = train(small(fields), recorder)
    before, after = (run.metrics["held_out"]["loss"] for run in (first, second))
    assert after == pytest.approx(before, abs=1e-4)
    assert log(second.directory)[0]["held_out"] == pytest.approx(before, abs=1e-6)


def test_an_earlier_run_is_kept_beside(small: Small, recorder) -> None:
    first = weights(train(small(), recorder).directory)
    run = train(small({"seed": 1}), recorder)
    assert weights(run.directory.with_name("run.previous")) == first != weights(run.directory)


def test_other_folders_are_left_alone(small: Small, recorder, tmp_path: Path) -> None:
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "thesis.tex").write_text("years of work")
    with pytest.raises(ConfigError, match=r"output=.* a new folder"):
        train(small(), recorder)
    assert (tmp_path / "run" / "thesis.tex").read_text() == "years of work"


@pytest.mark.parametrize(
    ("name", "model", "measured"),
    [
        ("var/tiny", {"width": 16, "depth": 1, "heads": 2}, True),
        (
            "mar/tiny",
            {"encoder": {"depth": 1}, "decoder": {"depth": 1}, "head": {"depth": 1}},
            False,
        ),
    ],
)
def test_other_systems_train_by_the_same_loop(
    recorder, tmp_path: Path, name, model, measured
) -> None:
    fields = {
        "data.size": 16,
        "data.classes": ["Activities", "Flags"],
        "data.views.count": 2,
        "budget.steps": 3,
        "evaluations": 1,
        "sample.each": 1,
        "output": str(tmp_path / "run"),
        **{f"model.config.{field}": value for field, value in model.items()},
    }
    run = train(load_recipe(name, fields), recorder)
    assert run.metrics["best_step"] == 3
    assert ("bits_per_token" in run.metrics["held_out"]) is measured
    assert (run.directory / "samples.png").is_file()


def test_measurements_go_to_trackers(small: Small, recorder) -> None:
    run = train(small({"trackers": ["tensorboard"]}), recorder)
    assert list((run.directory / "trackers").rglob("events.out.tfevents.*"))


def test_a_tracker_that_is_not_installed_is_named(small: Small, recorder) -> None:
    with pytest.raises(ConfigError, match="wandb is not installed"):
        train(small({"trackers": ["wandb"]}), recorder)


def test_half_precision_and_pictures_on_the_way(small: Small, recorder) -> None:
    fields = {"precision": "bfloat16", "sample.each": 1, "sample.times": 3}
    run = train(small(fields), recorder)
    exact = train(small({"output": f"{run.directory}-exact"}), recorder)
    names = sorted(path.name for path in (run.directory / "samples").iterdir())
    assert names == ["step-00000004.png", "step-00000008.png"]
    half, full = (r.metrics["held_out"]["loss"] for r in (run, exact))
    assert half != full and half == pytest.approx(full, rel=0.01)


@pytest.mark.slow
def test_compiled_blocks_learn_the_same(small: Small, recorder, tmp_path: Path) -> None:
    fields = {"model.config.dropout": 0.0, "budget.steps": 6}
    plain = train(small(fields), recorder)
    compiled = train(small({**fields, "compile": True, "output": str(tmp_path / "c")}), recorder)
    first, second = (r.metrics["held_out"]["loss"] for r in (plain, compiled))
    assert first == pytest.approx(second, abs=1e-4)
    assert weights(compiled.directory)[:8] == weights(plain.directory)[:8], "the names are the same"


def test_an_unknown_device_is_named(small: Small, recorder) -> None:
    with pytest.raises(ConfigError, match="device='quantum' is not accepted"):
        train(small({"device": "quantum"}), recorder)


def test_plain_lines_are_written_for_measurements_only() -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.update(Moment(10, 0.1, 2.0, 1e-3, 4.0))
    lines.update(Moment(20, 0.25, 4.0, 1e-3, 3.0, 3.5, 80, 1.25, {"held_out_psnr": 21.0}))
    assert stream.getvalue() == (
        "step 20   25%  5.0 steps/s  20 examples/s  0:12 left  1.2 GiB  loss 3.000  "
        "held-out 3.500  PSNR 21\n"
    )
    assert clock(3725) == "1:02:05"
