"""The reference cases of E-CAR and NFIG, through the same parts that users run."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity"


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
    with changed_case(CASES / case, folder) as tensors:
        tensors[output] = tensors[output] + share * tensors[output].abs().max()
    assert failures(folder) == {output}
