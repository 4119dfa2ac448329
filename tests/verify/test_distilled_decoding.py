"""The reference case of Distilled Decoding's flow map, through the parts that users run."""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from limner.verify import verify

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "distilled-decoding" / "flow-map"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


def test_the_reference_case_is_reproduced_and_a_perturbed_one_noticed(tmp_path):
    assert failures(CASE) == set()
    shutil.copytree(CASE, tmp_path / "case")
    tensors = load_file(CASE / "io.safetensors")
    tensors["velocity"] = tensors["velocity"] * 1.001
    tensors["ids"][0] += 1
    # "x_t" is an input of the velocity as well
    save_file(tensors, tmp_path / "case" / "io.safetensors")
    assert failures(tmp_path / "case") == {"velocity", "ids"}
