"""The reference case of Distilled Decoding's flow map, through the parts that users run."""

from pathlib import Path

from tests.verify.replays import changed_case, failures

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "distilled-decoding" / "flow-map"


def test_the_reference_case_is_reproduced_and_a_perturbed_one_noticed(tmp_path):
    assert failures(CASE) == set()
    with changed_case(CASE, tmp_path / "case") as tensors:
        tensors["velocity"] = tensors["velocity"] * 1.001
        tensors["ids"][0] += 1
        # "x_t" is an input of the velocity as well
    assert failures(tmp_path / "case") == {"velocity", "ids"}
