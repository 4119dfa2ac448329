"""The reference case of CSpD's acceptance, through the parts that users run."""

import shutil
from pathlib import Path

from safetensors.torch import load_file, save_file

from limner.verify import verify

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "cspd" / "accept"


def failures(folder):
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


def test_the_reference_case_is_reproduced_and_a_perturbed_one_noticed(tmp_path):
    assert failures(CASE) == set()
    shutil.copytree(CASE, tmp_path / "accept")
    tensors = load_file(CASE / "io.safetensors")
    tensors["prob"] = tensors["prob"] * 1.001
    tensors["first_hit"][0] += 1
    save_file(tensors, tmp_path / "accept" / "io.safetensors")
    assert failures(tmp_path / "accept") == {"prob", "first_hit"}
