"""The reference case of ARFlow, through the same network, memory and loop that users run."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from limner.core.errors import ConfigError
from limner.hub.official import arflow as official
from tests.verify.replays import changed_case, failures

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "arflow" / "flow"


def test_the_reference_case_is_reproduced():
    assert failures(CASE) == set()


@pytest.mark.parametrize(
    ("output", "share"),
    [("attn_out", 2e-4), ("pred", 2e-4), ("state_layer0", 2e-4), ("gen_cfg", 2e-3)],
)
def test_a_perturbed_reference_is_noticed(output, share, tmp_path):
    folder = tmp_path / "flow"
    with changed_case(CASE, folder) as tensors:
        tensors[output] = tensors[output] + share * tensors[output].abs().max()
    assert failures(folder) == {output}


def test_the_key_table_goes_both_ways():
    state = load_file(CASE / "weights.safetensors")
    config = official.FLOW.config(state, {"stack.heads": 3})
    assert (config.token_width, config.channels, config.ballast) == (16, 4, True)
    table = official.FLOW.table(config)
    back = table.to_official(table.to_ours(state))
    assert back.keys() == state.keys() - {"pos_embed"}
    assert all((back[name] == state[name]).all() for name in back)
    with pytest.raises(ConfigError, match="heads cannot be told"):
        official.FLOW.config(state)
