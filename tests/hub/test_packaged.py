"""The packaged feature network: what its file says, and files that are not one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from limner.core.errors import CheckpointError
from limner.hub.packaged import FEATURES, load_features, read_features_header, save_features
from limner.layers.features import FeatureConfig, FeatureNetwork

SMALL = FeatureConfig(widths=(4, 6), convolutions=(1, 2))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_features(FeatureNetwork(SMALL), tmp_path / "small.safetensors", "nothing", "Apache-2.0")
    return tmp_path / "small.safetensors"


def test_the_package_brings_its_network() -> None:
    network = load_features()
    assert network.config == FeatureConfig() and not network.training
    assert not any(p.requires_grad for p in network.parameters())
    assert all(p.dtype == torch.float32 for p in network.parameters())
    assert FEATURES.stat().st_size < 1_000_000
    header = read_features_header()
    assert header["licence"] == "Apache-2.0" and "train_features" in header["source"]


def test_what_is_saved_is_loaded(saved: Path) -> None:
    torch.manual_seed(0)
    network, loaded = FeatureNetwork(SMALL), load_features(saved)
    assert loaded.config == SMALL
    for name, tensor in network.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], tensor, atol=1e-3, rtol=1e-3)
    assert all(tensor.dtype == torch.float16 for tensor in load_file(saved).values())
    assert saved.stat().st_mode & 0o044 == 0o044  # others may read it


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"missing: .*none\.safetensors"):
        load_features(tmp_path / "none.safetensors")


def test_a_broken_file_is_named(saved: Path) -> None:
    saved.write_bytes(saved.read_bytes()[:-10])
    with pytest.raises(CheckpointError, match=r"small\.safetensors holds no features"):
        load_features(saved)


def rewritten(path: Path, metadata: dict[str, str] | None) -> Path:
    save_file(load_file(path), path, metadata=metadata)
    return path


@pytest.mark.parametrize("text", [None, "", "[]", "{}", '{"limner": 1}'])
def test_weights_of_something_else_are_refused(saved: Path, text: str | None) -> None:
    metadata = None if text is None else {"limner": text}
    with pytest.raises(CheckpointError, match="holds no features of limner"):
        load_features(rewritten(saved, metadata))


def test_a_newer_format_is_refused(saved: Path) -> None:
    text = json.dumps({"limner": 99, "config": {}})
    with pytest.raises(CheckpointError, match=r"99.* up to 1"):
        load_features(rewritten(saved, {"limner": text}))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"widths": [4, 8], "convolutions": [1, 2]}, "does not fit the configuration"),
        ({"widths": [4, -6], "convolutions": [1, 2]}, "widths"),
        ({"heights": [4]}, "heights"),
    ],
)
def test_another_configuration_is_refused(
    saved: Path, config: dict[str, list[int]], message: str
) -> None:
    text = json.dumps({"limner": 1, "config": config})
    with pytest.raises(CheckpointError, match=message):
        load_features(rewritten(saved, {"limner": text}))
