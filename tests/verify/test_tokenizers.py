"""The reference cases of quantisers and of VQGAN, through what users run."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity"
HELD = [
    f"{system}/{case}"
    for system, cases in {
        "quantizers": (
            "bsq bsq-vit fsq lfq residual-vq vq-cosine vq-ema-update vq-ema-update-cosine vq-euclid"
        ),
        "vqgan": "gpt gumbel permuters",
    }.items()
    for case in cases.split()
]


def _failures(folder):
    report = verify([folder], write=lambda line: None)
    return {
        line.name: line.outcome
        for case in report.cases
        for line in case.lines
        if not line.outcome.ok
    }


@pytest.mark.parametrize("name", HELD)
def test_reference_cases_are_reproduced(name):
    assert _failures(CASES / name) == {}


@pytest.mark.parametrize(
    ("name", "output"),
    [
        ("quantizers/vq-euclid", "grad_x_rotation"),
        ("quantizers/vq-ema-update", "step2_embed"),
        ("quantizers/vq-ema-update-cosine", "dead_embed_avg"),
        ("quantizers/residual-vq", "train_commit_losses"),
        ("quantizers/fsq", "L8_8_8_sym_values"),
        ("quantizers/lfq", "spherical_grad_x"),
        ("quantizers/bsq", "analytical_avg_prob"),
        ("quantizers/bsq-vit", "decoded"),
        ("vqgan/gumbel", "soft_t0.5_zq"),
        ("vqgan/gpt", "corrupt_loss"),
    ],
)
def test_a_perturbed_reference_is_noticed(name, output, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(CASES / name, folder)
    tensors = load_file(folder / "io.safetensors")
    tensors[output] = tensors[output] + 2e-4 * tensors[output].abs().max()
    save_file(tensors, folder / "io.safetensors")
    assert set(_failures(folder)) == {output}


def test_settings_come_from_the_arguments(tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(CASES / "quantizers" / "bsq", folder)
    config = json.loads((folder / "config.json").read_text())
    for entry in config["arguments"].values():
        entry["inv_temperature"] = 2.0
    (folder / "config.json").write_text(json.dumps(config))
    failures = set(_failures(folder))
    assert {"group_loss", "bitwise_grad_z", "analytical_avg_prob"} <= failures
    assert not failures & {"ids", "quantized", "group_group_ids"}


def test_a_residual_quantizer_may_stand_between_projections(tmp_path):
    """The case has none; with identical widths padded by projections the ids stay the same."""
    folder = tmp_path / "case"
    shutil.copytree(CASES / "quantizers" / "residual-vq", folder)
    config = json.loads((folder / "config.json").read_text())
    weights = load_file(folder / "weights.safetensors")
    tensors = load_file(folder / "io.safetensors")
    width = config["hyper"]["codebook_dim"]
    config["hyper"]["dim"] = width + 1
    eye = torch.eye(width + 1)[:width]
    weights |= {
        "project_in.weight": eye,
        "project_in.bias": torch.zeros(width),
        "project_out.weight": eye.T.contiguous(),
        "project_out.bias": torch.zeros(width + 1),
    }
    for name in ("x", "quantized", "out_from_ids", "train_quantized"):
        tensors[name] = torch.nn.functional.pad(tensors[name], (0, 1))
    (folder / "config.json").write_text(json.dumps(config))
    save_file(weights, folder / "weights.safetensors")
    save_file(tensors, folder / "io.safetensors")
    assert _failures(folder) == {}
