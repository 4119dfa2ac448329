"""The reference cases of Mamba's layer and scan."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "mamba-block"


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
    with changed_case(CASES / case, folder) as tensors:
        tensors[output] = tensors[output] * (1 + 3e-4)
    assert failures(folder) == {output}


def test_keys_by_groups_are_read(tmp_path):
    """A case of two groups whose keys and queries are alike is the case of one."""
    folder = tmp_path / "grouped"
    with changed_case(CASES / "selective_scan", folder) as tensors:
        for name in ("B", "C"):
            tensors[name] = tensors[name].unsqueeze(1).repeat(1, 2, 1, 1)
    assert failures(folder) == set()
