"""The reference cases of VAR, through the same network, head, canvas and loop that users run."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "var"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize("name", ["var", "var-saln"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize("output", ["smooth_f_hat", "edit_ids", "edit_f_hat", "edit_masks_scales"])
def test_a_perturbed_reference_is_noticed(output, tmp_path):
    folder = tmp_path / "var"
    shutil.copytree(CASES / "var", folder)
    tensors = load_file(folder / "io.safetensors")
    changed = tensors[output].flatten()
    changed[-1] = changed[-1] + (1 if output != "edit_f_hat" else 0.1)
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == {output}
