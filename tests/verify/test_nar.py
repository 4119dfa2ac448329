"""The reference cases of NAR that are small, through the same parts that users run."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "nar"


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
    with changed_case(CASES / case, folder) as tensors:
        tensors[output][-1] += change
    assert output in failures(folder)
