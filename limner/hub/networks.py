"""Networks that judge pictures, from the files in which their users have the weights."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch

from limner.core.errors import CheckpointError, unknown
from limner.hub.convert import read_official
from limner.hub.official import inception as official_inception
from limner.hub.official import lpips_networks as official_lpips
from limner.hub.official.i3d import I3D
from limner.hub.remote import resolve_file
from limner.layers.inception import Inception
from limner.layers.perceptual import LPIPS

INCEPTION_FILES = (
    "weights-inception-2015-12-05-6726825d.pth",
    "pt_inception-2015-12-05-6726825d.pth",
)
"""As torch-fidelity and torchmetrics, and as pytorch-fid keep them."""

I3D_FILES = ("i3d_torchscript.pt",)
"""As codes that measure FVD in PyTorch keep it."""

TRUNK_FILES = {
    "alex": ("alexnet-owt-7be5be79.pth", "alexnet-owt-4df8aa71.pth"),
    "vgg": ("vgg16-397923af.pth",),
}
"""As torchvision keeps them."""

_HEADS = {"lpips": "weights/v0.1", "torchmetrics": "functional/image/lpips_models"}
"""Packages that bring the heads, and where in them."""

_INCEPTION_SOURCE = "https://github.com/toshas/torch-fidelity/releases"
_I3D_SOURCE = "https://github.com/universome/fvd-comparison"
_TRUNK_SOURCE = "https://download.pytorch.org/models"
_HEADS_SOURCE = "https://github.com/richzhang/PerceptualSimilarity/tree/master/lpips/weights/v0.1"


def load_inception(path: str | Path | None = None) -> Inception:
    """Return the network of FID and its relatives, in evaluation mode.

    Args:
        path: a file of official weights, "user/name/file" on the hub, or a folder that holds one
            of `INCEPTION_FILES`; None: PyTorch's folder of checkpoints, where other packages put
            them.

    Raises:
        CheckpointError: there is no such file, or it holds other weights.
    """
    folders = [_checkpoints()]
    file = _find("Inception network", path, folders, INCEPTION_FILES, _INCEPTION_SOURCE)
    return official_inception.inception(read_official(file), str(file))


def load_i3d(path: str | Path | None = None, device: torch.device | str | None = None) -> I3D:
    """Return the network of FVD, which is a program: see `limner.hub.official.i3d`.

    Args:
        path: as of `load_inception`, with `I3D_FILES`.
        device: None: the CPU.

    Raises:
        CheckpointError: there is no such file, or it holds something else.
    """
    file = _find("I3D network", path, [_checkpoints()], I3D_FILES, _I3D_SOURCE)
    return I3D(file, torch.device(device or "cpu"))


def load_lpips(
    net: official_lpips.Net = "alex",
    heads: str | Path | None = None,
    trunk: str | Path | None = None,
) -> LPIPS:
    """Return LPIPS, version 0.1, in evaluation mode.

    Args:
        net: whose features are compared: "alex", as the metric's authors measure, or "vgg".
        heads: file of the package lpips ("alex.pth", "vgg.pth"), or a folder that holds it; None:
            where lpips or torchmetrics is installed.
        trunk: torchvision's file of the network, or a folder that holds one of `TRUNK_FILES`;
            None: PyTorch's folder of checkpoints.

    Raises:
        ConfigError: no such network.
        CheckpointError: a file is missing, or holds other weights.
    """
    if net not in TRUNK_FILES:
        raise unknown("network of LPIPS", net, TRUNK_FILES)
    head = _find("heads of LPIPS", heads, _installed(), [f"{net}.pth"], _HEADS_SOURCE)
    body = _find("trunk of LPIPS", trunk, [_checkpoints()], TRUNK_FILES[net], _TRUNK_SOURCE)
    state = official_lpips.joined(net, read_official(head), read_official(body))
    return official_lpips.lpips(net, state, f"{head} with {body}")


def _checkpoints() -> Path:
    return Path(torch.hub.get_dir()) / "checkpoints"


def _installed() -> list[Path]:
    """Return the folders of heads that installed packages bring; the packages are not imported."""
    found = {package: find_spec(package) for package in _HEADS}
    return [
        Path(spec.origin).parent / _HEADS[package]
        for package, spec in found.items()
        if spec is not None and spec.origin is not None
    ]


def _find(
    purpose: str,
    given: str | Path | None,
    folders: Sequence[Path],
    names: Sequence[str],
    source: str,
) -> Path:
    """Return the file that is given, or the first of these names in a folder."""
    if given is not None:
        folder = Path(given).expanduser()
        if not folder.is_dir():
            return resolve_file(given)
        folders = [folder]
    for file in (folder / name for folder in folders for name in names):
        if file.is_file():
            return file
    searched = " or ".join(map(str, folders)) or "any installed package"
    raise CheckpointError(
        f"the weights of the {purpose} are not in {searched}: put {names[0]} there, from "
        f"{source}, or give the path of your copy"
    )
