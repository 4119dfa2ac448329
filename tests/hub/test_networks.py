"""Networks that judge pictures, from files."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from limner.core.errors import CheckpointError, ConfigError, DataError
from limner.hub.networks import INCEPTION_FILES, TRUNK_FILES, load_inception, load_lpips
from limner.hub.official import inception as official
from limner.hub.official import lpips_networks


def state() -> dict[str, Tensor]:
    """Weights of one number each: all shapes and little memory."""
    numbers = enumerate(sorted(official.shapes().items()))
    return {name: torch.tensor(k / 1e3).expand(shape) for k, (name, shape) in numbers}


def test_weights_are_found_where_other_packages_keep_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    with pytest.raises(CheckpointError, match=rf"not in {folder}.*{INCEPTION_FILES[0]}.*https"):
        load_inception()
    tracked = {"Conv2d_1a_3x3.bn.num_batches_tracked": torch.tensor(0)}
    torch.save(state() | tracked, folder / INCEPTION_FILES[1])
    for network in (
        load_inception(),
        load_inception(folder),
        load_inception(folder / INCEPTION_FILES[1]),
    ):
        assert not network.training
        assert not any(weight.requires_grad for weight in network.parameters())
        again = official.TABLE.to_official(network.state_dict())
        assert all(torch.equal(again[name], tensor) for name, tensor in state().items())


def test_files_of_other_weights_are_refused(tmp_path: Path) -> None:
    file = tmp_path / "other.pth"
    with pytest.raises(CheckpointError, match="neither a file"):
        load_inception(file)
    torch.save({"features.0.weight": torch.zeros(1)}, file)
    with pytest.raises(CheckpointError, match=r"features\.0\.weight"):
        load_inception(file)
    incomplete = state()
    del incomplete["fc.bias"]
    torch.save(incomplete, file)
    with pytest.raises(CheckpointError, match=r"missing: classes\.bias"):
        load_inception(file)


def test_only_levels_are_looked_at(tmp_path: Path) -> None:
    network = official.inception(state())
    with pytest.raises(DataError, match=r"float32 \[1, 3, 8, 8\].*uint8"):
        network(torch.zeros(1, 3, 8, 8))
    with pytest.raises(DataError, match=r"uint8 \[1, 1, 8, 8\]"):
        network(torch.zeros(1, 1, 8, 8, dtype=torch.uint8))


@pytest.mark.parametrize("net", ["alex", "vgg"])
def test_lpips_is_put_together_from_two_files(
    net: lpips_networks.Net, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    heads, trunk = {}, {"classifier.1.weight": torch.zeros(1)}
    for k, (name, shape) in enumerate(lpips_networks.shapes(net).items()):
        value = torch.tensor(k / 1e3).expand(shape)
        if name.startswith("lin"):
            heads[name] = value
        else:
            trunk["features." + name.split(".", 2)[2]] = value
    torch.save(heads, tmp_path / f"{net}.pth")
    with pytest.raises(CheckpointError, match=rf"trunk of LPIPS.*{TRUNK_FILES[net][0]}.*https"):
        load_lpips(net, heads=tmp_path)
    torch.save(trunk, folder / TRUNK_FILES[net][0])
    network = load_lpips(net, heads=tmp_path / f"{net}.pth")
    assert not network.training
    assert not any(weight.requires_grad for weight in network.parameters())
    again = lpips_networks.table(net).to_official(dict(network.named_parameters()))
    assert all(
        torch.equal(
            again[f"lin{k}.model.1.weight"].flatten(), heads[f"lin{k}.model.1.weight"].flatten()
        )
        for k in range(5)
    )
    kept = {name.split(".", 2)[2]: tensor for name, tensor in again.items() if "net." in name}
    assert len(kept) == len(trunk) - 1
    assert all(torch.equal(trunk[f"features.{name}"], tensor) for name, tensor in kept.items())


def test_lpips_names_what_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'squeeze'"):
        load_lpips("squeeze")  # type: ignore[arg-type]
    with pytest.raises(
        CheckpointError, match=rf"heads of LPIPS are not in {tmp_path}: put vgg\.pth"
    ):
        load_lpips("vgg", heads=tmp_path)
    torch.save({"lin0.model.1.weight": torch.zeros(1, 64, 1, 1)}, tmp_path / "vgg.pth")
    torch.save({"features.0.bias": torch.zeros(64)}, tmp_path / "trunk.pth")
    with pytest.raises(CheckpointError, match=r"missing: stages\.0\.0\.weight"):
        load_lpips("vgg", tmp_path / "vgg.pth", tmp_path / "trunk.pth")
