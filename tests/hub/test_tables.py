"""Key tables: rules between official names and ours."""

import pytest
import torch

from limner.core.errors import CheckpointError
from limner.hub.official.tables import (
    KeyTable,
    Reorder,
    Rule,
    Same,
    join,
    nested,
    rename,
    split,
)

TABLE = KeyTable(
    [
        rename("tok.weight", "tokens.weight"),
        *nested(
            "layers.{i}",
            "blocks.{i}",
            [
                split("qkv.{parameter}", ("q.{parameter}", "k.{parameter}", "v.{parameter}")),
                join(("gate.weight", "up.weight"), "mlp.weight", dim=1),
                rename("ada.bias", "modulation.bias", Reorder((2, 0, 1))),
            ],
        ),
    ],
    ignored=["cache", "layers.{i}.statistics"],
)


def _official():
    state = {"tok.weight": torch.randn(3, 2)}
    for layer in (0, 11):
        state |= {
            f"layers.{layer}.qkv.weight": torch.randn(6, 2),
            f"layers.{layer}.qkv.bias": torch.randn(6),
            f"layers.{layer}.gate.weight": torch.randn(4, 2),
            f"layers.{layer}.up.weight": torch.randn(4, 2),
            f"layers.{layer}.ada.bias": torch.arange(6.0),
        }
    return state


def test_names_and_values_become_ours():
    official = _official()
    ours = TABLE.to_ours(official)
    qkv = official["layers.11.qkv.weight"]
    assert torch.equal(ours["blocks.11.k.weight"], qkv[2:4])
    gate, up = official["layers.0.gate.weight"], official["layers.0.up.weight"]
    assert torch.equal(ours["blocks.0.mlp.weight"], torch.cat([gate, up], 1))
    assert ours["blocks.0.modulation.bias"].tolist() == [4, 5, 0, 1, 2, 3]
    assert len(ours) == 1 + 2 * 8


def test_there_and_back_again():
    official = _official()
    back = TABLE.to_official(TABLE.to_ours(official))
    assert back.keys() == official.keys()
    assert all(torch.equal(back[name], official[name]) for name in official)


def test_documented_buffers_are_ignored_and_nothing_else():
    extra = {"cache": torch.zeros(1), "layers.3.statistics": torch.zeros(1)}
    assert TABLE.to_ours(_official() | extra).keys() == TABLE.to_ours(_official()).keys()
    with pytest.raises(CheckpointError, match=r"does not know: layers\.x\.statistics"):
        TABLE.to_ours({"layers.x.statistics": torch.zeros(1)})


def test_a_literal_dot_is_a_dot():
    with pytest.raises(CheckpointError, match="tokXweight"):
        TABLE.to_ours({"tokXweight": torch.zeros(1)})


def test_half_a_group_is_an_error():
    official = _official()
    del official["layers.11.up.weight"]
    with pytest.raises(CheckpointError, match=r"missing: layers\.11\.up\.weight"):
        TABLE.to_ours(official)
    ours = TABLE.to_ours(_official())
    del ours["blocks.0.v.bias"]
    with pytest.raises(CheckpointError, match=r"missing: blocks\.0\.v\.bias"):
        TABLE.to_official(ours)


def test_a_table_that_contradicts_itself_is_refused():
    with pytest.raises(ValueError, match="braces"):
        Rule(("layers.{i}.a",), ("blocks.a",), Same())
    twice = KeyTable([rename("a.{i}", "b.{i}"), rename("a.0", "c")])
    with pytest.raises(ValueError, match=r"2 rules .* a\.0"):
        twice.to_ours({"a.0": torch.zeros(1)})
