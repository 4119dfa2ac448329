"""The reference cases of MAR, through the same network, head and loop that users run."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from limner.hub.official import mar as official
from tests.verify.replays import changed_case, failures

CASES = Path(__file__).parents[1] / "fixtures" / "parity" / "mar"


@pytest.mark.parametrize("name", ["diffloss", "mar", "sampling"])
def test_reference_cases_are_reproduced(name):
    assert failures(CASES / name) == set()


@pytest.mark.parametrize(
    ("case", "output", "share"),
    [
        ("diffloss", "out_cfg", 2e-4),
        ("diffloss", "loss_vb", 2e-4),
        ("diffloss", "cfg1_out", 2e-3),
        ("mar", "enc_out", 2e-4),
        ("mar", "loss", 2e-4),
        ("sampling", "cfglin_latents", 2e-3),
        ("sampling", "cfglin_cfg", 2e-4),
    ],
)
def test_a_perturbed_reference_is_noticed(case, output, share, tmp_path):
    folder = tmp_path / case
    with changed_case(CASES / case, folder) as tensors:
        tensors[output] = tensors[output] + share * tensors[output].abs().max()
    assert failures(folder) == {output}


def test_the_key_table_goes_both_ways():
    state = load_file(CASES / "mar" / "weights.safetensors")
    config = official.MAR.config(state, {"encoder.heads": 4, "decoder.heads": 3})
    assert (config.tokens, config.token_width, config.buffer, config.classes) == (16, 12, 4, 10)
    table = official.MAR.table(config)
    back = table.to_official(table.to_ours(state))
    assert back.keys() == state.keys()
    assert all((back[name] == state[name]).all() for name in state)
