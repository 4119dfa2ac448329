"""The reference cases of E-CAR and NFIG, through the same parts that users run."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize("name", ["e-car/multistage-flow", "nfig/frequency-quantiser"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "share"),
    [
        ("e-car/multistage-flow", "gen_stage_2", 2e-3),
        ("e-car/multistage-flow", "target_1", 2e-4),
        ("e-car/multistage-flow", "beta", 2e-4),
        ("nfig/frequency-quantiser", "f_hat", 2e-4),
        ("nfig/frequency-quantiser", "up_3", 2e-4),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, share, tmp_path):
    folder = tmp_path / "case"
    shutil.copytree(CASES / case, folder)
    tensors = load_file(folder / "io.safetensors")
    tensors[output] = tensors[output] + share * tensors[output].abs().max()
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == {output}
