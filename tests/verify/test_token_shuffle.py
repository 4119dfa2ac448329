"""The reference case of Token-Shuffle, through the same network and loop that users run."""

from pathlib import Path

import pytest
from safetensors.torch import load_file

from limner.core.errors import ConfigError
from limner.hub.official import token_shuffle as official
from tests.verify.replays import changed_case, failures

CASE = Path(__file__).parents[1] / "fixtures" / "parity" / "token-shuffle" / "lm"


def test_the_reference_case_is_reproduced():
    assert failures(CASE) == set()


@pytest.mark.parametrize(
    ("output", "share"),
    [("merged", 2e-4), ("logits", 2e-4), ("scale_linear", 2e-4), ("gen_half_linear_logits", 2e-4)],
)
def test_a_perturbed_reference_is_noticed(output, share, tmp_path):
    folder = tmp_path / "lm"
    with changed_case(CASE, folder) as tensors:
        tensors[output] = tensors[output] + share * tensors[output].abs().max()
    assert failures(folder) == {output}


def test_the_key_table_goes_both_ways():
    state = load_file(CASE / "weights.safetensors")
    given = {"heads": 4, "codebook_size": 32, "begin": 1}
    config = official.DECODER.config(state, given)
    assert (config.key_heads, config.window, config.text_vocabulary) == (2, 2, 20)
    table = official.DECODER.table(config)
    back = table.to_official(table.to_ours(state))
    assert back.keys() == state.keys()
    assert all((back[name] == state[name]).all() for name in state)
    with pytest.raises(ConfigError, match="codebook_size cannot be told"):
        official.DECODER.config(state, {"heads": 4})
