"""The reference cases of NAR that are small, through the same parts that users run."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "nar"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize("name", ["order", "larp-tokenizer"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "change"),
    [
        ("order", "step_4x2x3", 1),
        ("order", "mix_2x2x2", 2e-4),
        ("larp-tokenizer", "pred", 2e-3),
        ("larp-tokenizer", "ids", 1),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, change, tmp_path):
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    tensors = load_file(folder / "io.safetensors")
    tensors[output][-1] += change
    save_file(tensors, folder / "io.safetensors")
    assert output in failures(folder)
