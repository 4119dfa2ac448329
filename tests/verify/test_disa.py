"""The reference cases of DiSA, through the same schedules, chains and solvers that users run."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "disa"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize("name", ["schedule", "flow-samplers"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "change"),
    [
        ("schedule", "mar_50_5_cosine_T64", 1),
        ("schedule", "kept_50", 1),
        ("flow-samplers", "em2", 1e-3),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, change, tmp_path):
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    tensors = load_file(folder / "io.safetensors")
    tensors[output][-1] += change
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == {output}
