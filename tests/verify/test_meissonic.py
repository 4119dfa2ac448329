"""The reference cases of Meissonic, through the same network, order and loop that users run."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

from limner.hub.official import meissonic as official
from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "meissonic"


@pytest.mark.parametrize("name", ["scheduler", "transformer-512", "vq"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


def test_the_command_reproduces_large_times_on_every_processor():
    environment = {key: value for key, value in os.environ.items() if key != "MKL_CBWR"}
    command = [sys.executable, "-m", "limner", "verify", str(CASES / "transformer-512")]
    ran = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stdout


@pytest.mark.parametrize(
    ("case", "output"),
    [
        ("transformer-512", "logits"),
        ("transformer-512", "temb"),
        ("transformer-512", "gen_logits_last"),
        ("transformer-512", "gen_temperatures"),
        ("vq", "vq_loss"),
        ("vq", "decoded"),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, tmp_path):
    folder = tmp_path / case
    with changed_case(CASES / case, folder) as tensors:
        tensors[output] = tensors[output] + 2e-4 * tensors[output].abs().max()
    assert failures(folder) == {output}


def test_another_id_is_noticed(tmp_path):
    folder = tmp_path / "scheduler"
    with changed_case(CASES / "scheduler", folder) as tensors:
        tensors["linear_t4_prev_sample"][0, 0, 0] += 1
    assert failures(folder) == {"linear_t4_prev_sample"}


def test_the_key_tables_go_both_ways():
    state = load_file(CASES / "transformer-512" / "weights.safetensors")
    config = official.TRANSFORMER.config(state, {"axes": (4, 4, 4)})
    assert (config.heads, config.joint, config.single, config.spare) == (2, 1, 2, 8)
    assert not config.compresses
    pixels = load_file(CASES / "vq" / "weights.safetensors")
    vq = official.VQ.config(pixels, {"convolution.groups": 4})
    assert vq.convolution.multipliers == (1, 1, 2) and vq.codebook_size == 64
    tables = (official.TRANSFORMER.table(config), state), (official.VQ.table(vq), pixels)
    for table, tensors in tables:
        back = table.to_official(table.to_ours(tensors))
        assert back.keys() == tensors.keys()
        assert all((back[name] == tensors[name]).all() for name in tensors)
