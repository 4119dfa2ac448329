"""The reference cases of ACDiT, AR-Diffusion and NBP, through the same parts that users run."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize(
    "name",
    [
        "acdit/mask",
        "ar-diffusion/fopp",
        "ar-diffusion/ad-schedule",
        "nbp/gpt-block",
        "nbp/gpt-hybrid",
    ],
)
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "share"),
    [
        ("acdit/mask", "toy_out_5", 2e-4),
        ("acdit/mask", "vid_q_rot", 2e-4),
        ("ar-diffusion/fopp", "c1_steps", 1.0),
        ("ar-diffusion/ad-schedule", "c3_interval", 1.0),
        ("nbp/gpt-hybrid", "gen_logits", 2e-4),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, share, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(CASES / case, folder)
    tensors = load_file(folder / "io.safetensors")
    off = share * tensors[output].abs().max()
    tensors[output] = tensors[output] + off.to(tensors[output].dtype)
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == {output}
