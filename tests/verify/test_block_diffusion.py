"""The reference cases of ACDiT, AR-Diffusion and NBP, through the same parts that users run."""

from pathlib import Path

import pytest

from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity"


@pytest.mark.parametrize(
    "name",
    [
        "acdit/mask",
        "ar-diffusion/fopp",
        "ar-diffusion/ad-schedule",
        "nbp/gpt-block",
        "nbp/gpt-hybrid",
    ],
)
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "share"),
    [
        ("acdit/mask", "toy_out_5", 2e-4),
        ("acdit/mask", "vid_q_rot", 2e-4),
        ("ar-diffusion/fopp", "c1_steps", 1.0),
        ("ar-diffusion/ad-schedule", "c3_interval", 1.0),
        ("nbp/gpt-hybrid", "gen_logits", 2e-4),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, share, tmp_path):
    folder = tmp_path / "case"
    with changed_case(CASES / case, folder) as tensors:
        off = share * tensors[output].abs().max()
        tensors[output] = tensors[output] + off.to(tensors[output].dtype)
    assert failures(folder) == {output}
