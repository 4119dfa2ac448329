"""The reference cases of metrics, through what users run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.verify import verify
from limner.verify.seeded_weights import seeded_weights

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "evaluation-metrics"
HELD = ["codebook", "fid", "inception", "is", "kid", "lpips", "pixel", "precision-recall", "tsed"]


def _failures(folder):
    report = verify([folder], write=lambda line: None)
    return {
        line.name: line.outcome
        for case in report.cases
        for line in case.lines
        if not line.outcome.ok
    }


def _copy(name, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(CASES / name, folder)
    config = json.loads((folder / "config.json").read_text())
    return folder, config, load_file(folder / "io.safetensors")


def _write(folder, config, tensors):
    (folder / "config.json").write_text(json.dumps(config))
    save_file({name: t.contiguous() for name, t in tensors.items()}, folder / "io.safetensors")


@pytest.mark.parametrize("name", HELD)
def test_reference_cases_are_reproduced(name):
    assert _failures(CASES / name) == {}


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("codebook", "perplexity"),
        ("fid", "deg_fid"),
        ("is", "torchmetrics_std"),
        ("kid", "mmd2"),
        ("pixel", "ms_ssim_valid"),
        ("pixel", "lpips"),
        ("precision-recall", "k5_density"),
        ("tsed", "sed"),
    ],
)
def test_a_perturbed_reference_is_noticed(name, output, tmp_path):
    folder, config, tensors = _copy(name, tmp_path)
    tensors[output] = tensors[output] + 2e-4 * tensors[output].abs().max()
    _write(folder, config, tensors)
    assert set(_failures(folder)) == {output}


def test_names_carry_the_number_of_neighbours(tmp_path):
    folder, config, tensors = _copy("precision-recall", tmp_path)
    wrong = {
        name.replace("k5", "k6") if name.startswith("k5") else name: tensor
        for name, tensor in tensors.items()
    }
    _write(folder, config, wrong)
    failures = _failures(folder)
    assert {"k6_radii_real", "k6_radii_fake"} <= set(failures)
    assert all(name.startswith("k6") for name in failures)


def test_settings_come_from_the_arguments(tmp_path):
    folder, config, tensors = _copy("is", tmp_path)
    for entry in config["arguments"].values():
        if "rng_seed" in entry:
            entry["rng_seed"] = 7
    _write(folder, config, tensors)
    shuffled = {"permutation", "split10_shuffled_mean", "split10_shuffled_std"}
    assert set(_failures(folder)) == shuffled
    folder, config, tensors = _copy("kid", tmp_path / "kid")
    config["arguments"]["mmd2"]["gamma"] = 0.07
    _write(folder, config, tensors)
    assert set(_failures(folder)) == {"mmd2", "kid_mean", "kid_std"}


def test_a_median_of_no_matches_and_another_size(tmp_path):
    folder, config, tensors = _copy("tsed", tmp_path)
    size = config["hyper"]["image_size"]
    config["hyper"]["image_size"] = 2 * size
    config["arguments"]["tsed"]["threshold_error"] *= 2
    for name in ("keypoints_a", "keypoints_b", "sed", "median"):
        tensors[name] = 2 * tensors[name]
    tensors["valid"][0] = False
    tensors["sed"][0] = 0
    tensors["median"][0] = 99999999999
    tensors["tsed"] = tensors["tsed"] - tensors["consistent"][0].double() / 5
    tensors["consistent"][0] = False
    _write(folder, config, tensors)
    assert _failures(folder) == {}


def test_weights_follow_their_rule():
    """Element 0 of key 0 of seed 0 is splitmix64's first number, 0xE220A8397B1DCDAF."""
    first = 2 * (0xE220A8397B1DCDAF >> 11) / 2**53 - 1
    shapes = {"b.bn.weight": (3,), "a.weight": (2, 3), "c.running_var": (4,), "lin0.weight": (1,)}
    made = seeded_weights(shapes, seed=0)
    assert made["a.weight"][0, 0] == pytest.approx(first * 2**0.5)
    assert made["b.bn.weight"].sub(1).abs().max() <= 0.2
    assert made["c.running_var"].sub(1).abs().max() <= 0.5
    assert 0 <= made["lin0.weight"] <= 1
    other = seeded_weights(shapes, seed=1)
    assert not any(torch.equal(made[name], other[name]) for name in shapes)
