"""The reference cases of VAR, through the same network, head, canvas and loop that users run."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "var"


@pytest.mark.parametrize("name", ["var", "var-saln"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize("output", ["smooth_f_hat", "edit_ids", "edit_f_hat", "edit_masks_scales"])
def test_a_perturbed_reference_is_noticed(output, tmp_path):
    folder = tmp_path / "var"
    with changed_case(CASES / "var", folder) as tensors:
        changed = tensors[output].flatten()
        changed[-1] = changed[-1] + (1 if output != "edit_f_hat" else 0.1)
    assert failures(folder) == {output}
