"""`limner eval` on a run and on two sets; it goes on after a kill, and says what is wrong."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from limner.data import load_packaged
from limner.evaluation import features
from limner.evaluation.result import RESULT, Result, read_result
from limner.evaluation.samples import read_samples
from limner.layers.features import FeatureConfig, FeatureNetwork
from limner.metrics.frechet import fit_gaussian
from limner.metrics.references import write_reference
from limner.training import load_recipe, train

SMALL = {
    "data.size": 16,
    "data.classes": ["Activities", "Food & Drink"],
    "tokenizer.config": {"codebook_size": 16, "patch": 4, "width": 8},
    "model.config": {"width": 16, "depth": 1, "heads": 2, "multiple_of": 8},
    "budget.steps": 4,
    "budget.batch": 16,
    "evaluations": 1,
    "device": "cpu",
    "sample.each": 0,
}
FAST = ("--device", "cpu", "--resamples", 20)
RUN = (*FAST, "--samples", 40, "--batch", 16, "--classifier-steps", 2)


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was trained for a moment; not to be changed."""
    folder = tmp_path_factory.mktemp("trained") / "run"
    recipe = load_recipe("llamagen/tiny", {**SMALL, "output": str(folder)})
    return train(recipe).directory


@pytest.fixture(autouse=True)
def small_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """The packaged network, smaller and without its weights."""
    rng = torch.Generator().manual_seed(0)
    network = FeatureNetwork(FeatureConfig((4, 8), (1, 1)))
    with torch.no_grad():
        for weight in network.parameters():
            weight.copy_(0.3 * torch.randn(weight.shape, generator=rng))
    monkeypatch.setattr(features, "load_features", lambda device: network)


def result_in(folder: str | Path) -> Result:
    return read_result(Path(folder) / RESULT)


def test_a_run_is_measured_and_the_command_measures_it_again(limner, trained: Path) -> None:
    ran = limner("eval", trained, *RUN, "--guidance", 1.5, "--output", "out", "--npz", "all.npz")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "out/report.html"
    for name in ("FD (limner features)", "precision", "classifier agreement", "nearest training"):
        assert name in ran.out
    assert "FID" not in ran.out
    assert "drawing: 40/40" in ran.err and "pictures/s" in ran.err and "left" in ran.err
    first = result_in("out")
    drawing, real = first.protocol.drawing, first.protocol.real
    assert drawing is not None
    assert drawing.settings["guidance"] == 1.5
    assert drawing.settings["top_p"] == 0.98  # of the recipe, as the run keeps it
    assert (drawing.seed, drawing.batch, drawing.dtype) == (0, 16, "float32")
    assert (real.name, first.protocol.made.count) == ("twemoji (held-out)", 40)
    assert first.numbers["frechet_distance"].real_count == 40
    with np.load("all.npz") as archive:
        assert archive["arr_0"].shape == (40, 16, 16, 3) and archive["arr_1"].shape == (40,)

    words = shlex.split(first.protocol.command)[1:]
    words[words.index("out")] = "again"
    assert limner(*words).code == 0
    second = result_in("again")
    assert second.numbers == first.numbers
    assert second.protocol.made.fingerprint == first.protocol.made.fingerprint


def test_the_evaluation_set_may_be_another(limner, trained: Path, tmp_path: Path) -> None:
    shared = ("--pictures", "drawn", *RUN, "--asked", "balanced", "--classifier-steps", 0)
    pixels = load_packaged("twemoji", 16).pixels
    write_reference(tmp_path / "real.npz", pictures=pixels[:50])
    network = features.load_features(device="cpu")
    gaussian = fit_gaussian(network.vectors(pixels[:50] / 127.5 - 1))
    write_reference(tmp_path / "statistics.npz", gaussian)
    names, found = {}, {}
    for name, words in {
        "train": ("--set", "train"),
        "all": ("--set", "all"),
        "real": ("--real", "real.npz"),
        "folder": ("--real", "twemoji", "--most-real", 30),
        "statistics": ("--reference", "statistics.npz"),
    }.items():
        assert limner("eval", trained, *shared, *words, "--output", name).code == 0
        found[name] = result_in(name)
        names[name] = found[name].protocol.real.name
    assert names == {
        "train": "twemoji (train)",
        "all": "twemoji (all)",
        "real": "real.npz",
        "folder": "twemoji",
        "statistics": "statistics.npz",
    }
    assert found["folder"].protocol.real.count == 30
    assert found["all"].numbers["frechet_distance"].real is None
    assert "precision" not in found["statistics"].numbers
    value = found["real"].numbers["frechet_distance"].value
    assert found["statistics"].numbers["frechet_distance"].value == pytest.approx(value, rel=1e-5)
    drawn = {result.protocol.made.fingerprint for result in found.values()}
    assert len(drawn) == 1  # all measured the same pictures


def test_two_sets_of_pictures(limner, tmp_path: Path) -> None:
    pixels = load_packaged("twemoji", 16).pixels
    write_reference(tmp_path / "drawn.npz", pictures=pixels[:60])
    ran = limner("eval", "twemoji", "drawn.npz", "--size", 16, *FAST)
    assert ran.code == 0 and ran.out.splitlines()[-1] == "eval/report.html"
    found = result_in("eval").numbers
    assert found["precision"].value == 1 and found["recall"].value < 1
    assert limner("eval", "drawn.npz", "drawn.npz", *FAST, "--output", "same").code == 0
    same = result_in("same").numbers
    assert same["frechet_distance"].value == pytest.approx(0, abs=1e-9)
    assert same["precision"].value == same["recall"].value == 1


def test_fewer_pictures_than_features_are_noted(limner, tmp_path: Path) -> None:
    pixels = load_packaged("twemoji", 16).pixels
    write_reference(tmp_path / "few.npz", pictures=pixels[:9])
    ran = limner("eval", "few.npz", "few.npz", *FAST)
    assert ran.code == 0
    assert "limner: note: a Fréchet distance over 12 features from 9 and 9 pictures" in ran.err
    assert "12 features from 9 and 9" in Path("eval/report.html").read_text(encoding="utf-8")


def test_a_killed_command_goes_on_to_the_same_pictures(
    limner, trained: Path, tmp_path: Path
) -> None:
    words = ("eval", trained, "--samples", 3000, "--batch", 16, "--device", "cpu")
    process = subprocess.Popen(
        [sys.executable, "-m", "limner", *map(str, words), "--output", str(tmp_path / "killed")],
        stderr=subprocess.PIPE,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    try:
        until = time.monotonic() + 60
        while len(list(tmp_path.glob("killed/samples/shard-*.npz"))) < 1:
            assert process.poll() is None and time.monotonic() < until
            time.sleep(0.02)
    finally:
        process.kill()
        process.communicate()
    kept = len(read_samples(tmp_path / "killed" / "samples"))
    assert 256 <= kept < 3000
    for folder in ("killed", "whole"):
        more = ("--samples", kept + 40, "--batch", 16, "--output", folder)
        assert limner("eval", trained, *FAST, "--classifier-steps", 0, *more).code == 0
    first, second = (result_in(folder) for folder in ("killed", "whole"))
    assert first.protocol.made.fingerprint == second.protocol.made.fingerprint
    assert first.numbers == second.numbers


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--features", "inception"], "weights-inception-2015-12-05-6726825d.pth there, from http"),
        (["--features", "incepton"], "did you mean 'inception'?"),
        (["--reference", "nowhere.npz"], "nowhere.npz does not exist"),
        (["--real", "no/where"], "does not exist"),
        (["--real", "a", "--set", "all"], "--real and --set are two evaluation sets"),
        (["--samples", "3"], "samples=3 is not accepted: samples must be 6 or more"),
        (["--resamples", "1"], "resamples=1 is not accepted"),
        (["--sampels", "10"], "did you mean '--samples'?"),
        (["--data.held_out", "2"], "held_out=2.0 is not accepted"),
        (["--data.classes", "[Flags]"], "'twemoji' has the classes Flags, and the pipeline knows"),
        (["--top-p", "0"], "top_p=0.0 is not accepted"),
        (["--size", "8"], "holds pictures of 8x8, and 16x16 ones are to be measured"),
        (["b", "c"], "3 arguments are too many"),
        (["b", "--seed", "3"], "--seed is not accepted: it is of `limner eval RUN` alone"),
    ],
)
def test_what_cannot_be_measured(
    limner,
    trained: Path,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    words: list[str],
    expected: str,
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    ran = limner("eval", trained, *words, "--device", "cpu", "--output", "out")
    assert ran.code == 2
    assert expected in ran.err
    assert not Path("out").exists() or not list(Path("out").glob("samples/*.npz"))


def test_pipelines_without_a_recipe_need_an_evaluation_set(
    limner, tiny_pipeline_folder: Path, tmp_path: Path
) -> None:
    words = (*FAST, "--samples", 16, "--batch", 8, "--output", "out")
    ran = limner("eval", tiny_pipeline_folder, *words)
    assert ran.code == 2
    assert "holds no recipe.yaml that says what it learned from: give an evaluation set" in ran.err
    ran = limner("eval", tiny_pipeline_folder, *words, "--data.size", 16)
    assert "holds no recipe.yaml" in ran.err
    ran = limner("eval", tiny_pipeline_folder, *words, "--real", "twemoji", "--most-real", 40)
    assert ran.code == 0
    assert "class_agreement" not in result_in("out").numbers
    ran = limner("eval", tiny_pipeline_folder, *words, "--real", "twemoji", "--guidance", 2)
    assert ran.code == 2 and "give another --output" in ran.err
    assert limner("eval", tmp_path / "nowhere").code == 2


def test_references_of_another_network_or_resolution(limner, trained: Path, tmp_path: Path) -> None:
    write_reference(tmp_path / "adm.npz", fit_gaussian(torch.randn(30, 20)))
    ran = limner("eval", trained, *RUN, "--reference", "adm.npz", "--output", "out")
    assert ran.code == 2
    assert "20 features, and the feature space 'packaged' has 12" in ran.err
    pixels = load_packaged("twemoji", 32).pixels[:9]
    write_reference(tmp_path / "large.npz", pictures=pixels)
    small = load_packaged("twemoji", 8).pixels[:9]
    write_reference(tmp_path / "small.npz", pictures=small)
    ran = limner("eval", "small.npz", "small.npz", *FAST)
    assert ran.code == 2 and "at least 16 x 16 pixels" in ran.err
    for option in ("--reference", "--real"):
        ran = limner("eval", trained, *RUN, option, "large.npz", "--output", "out")
        assert ran.code == 2
        assert "large.npz holds pictures of 32x32, and 16x16 ones" in ran.err
    assert not Path("out").exists()


def test_ctrl_c_is_no_error(limner, trained: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*given: object, **options: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("limner.cli.evaluating.evaluate", interrupted)
    ran = limner("eval", trained, *RUN, "--output", "out")
    assert ran.code == 130
    assert "interrupted: the same command goes on" in ran.err
    assert json.loads(Path("out/samples/samples.json").read_text())["batch"] == 16
