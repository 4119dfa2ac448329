"""The reference cases of Mamba's layer and scan."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file, save_file

from limner.verify import verify

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "mamba-block"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@pytest.mark.parametrize("name", ["block", "selective_scan"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output"),
    [
        ("block", "out"),
        ("block", "ssm_state"),
        ("block", "conv_state_input"),
        ("selective_scan", "out"),
        ("selective_scan", "last_state"),
        ("selective_scan", "out_plain"),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, tmp_path):
    folder = tmp_path / case
    shutil.copytree(CASES / case, folder)
    tensors = load_file(folder / "io.safetensors")
    tensors[output] = tensors[output] * (1 + 3e-4)
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == {output}


def test_keys_by_groups_are_read(tmp_path):
    """A case of two groups whose keys and queries are alike is the case of one."""
    folder = tmp_path / "grouped"
    shutil.copytree(CASES / "selective_scan", folder)
    tensors = load_file(folder / "io.safetensors")
    for name in ("B", "C"):
        tensors[name] = tensors[name].unsqueeze(1).repeat(1, 2, 1, 1)
    save_file(tensors, folder / "io.safetensors")
    assert failures(folder) == set()
