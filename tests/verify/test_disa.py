"""The reference cases of DiSA, through the same schedules, chains and solvers that users run."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "disa"


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
    with changed_case(CASES / case, folder) as tensors:
        tensors[output][-1] += change
    assert failures(folder) == {output}
