"""The reference case of CSpD's acceptance, through the parts that users run."""

from pathlib import Path

from tests.verify.replays import changed_case, failures

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "cspd" / "accept"


def test_the_reference_case_is_reproduced_and_a_perturbed_one_noticed(tmp_path):
    assert failures(CASE) == set()
    with changed_case(CASE, tmp_path / "accept") as tensors:
        tensors["prob"] = tensors["prob"] * 1.001
        tensors["first_hit"][0] += 1
    assert failures(tmp_path / "accept") == {"prob", "first_hit"}
