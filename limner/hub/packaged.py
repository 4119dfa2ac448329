"""The weights that come with the package, so that a perceptual loss works without a download.

One safetensors file in half precision. Its metadata has the key `limner`, JSON text:
`{"limner": 1, "config": {...}, "source": what it learned from, "licence": ...}`.
"""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from limner.core.config import from_dict, to_dict
from limner.core.errors import CheckpointError, ConfigError
from limner.core.files import replaced
from limner.hub.build import fill, weightless
from limner.hub.save import FORMAT, read_tensors
from limner.layers.features import FeatureConfig, FeatureNetwork

FEATURES = Path(str(resources.files("limner"))) / "weights" / "features.safetensors"
_KEY = "limner"


def load_features(
    path: str | Path = FEATURES, device: torch.device | str | None = None
) -> FeatureNetwork:
    """Return the packaged feature network: float32, frozen, in evaluation mode.

    Args:
        path: another file that `save_features` wrote.
        device: None: the CPU.

    Raises:
        CheckpointError: the file is missing or broken, comes from a newer limner, or its weights
            do not fit the configuration that it carries.
    """
    header = read_features_header(path)
    try:
        config = from_dict(FeatureConfig, header["config"], "config")
        with weightless():
            network = FeatureNetwork(config)
    except ConfigError as error:
        raise CheckpointError(f"{path}: {error}") from None
    fill(network, read_tensors(Path(path), torch.float32, device), str(path))
    return network.requires_grad_(False).eval()


def read_features_header(path: str | Path = FEATURES) -> dict[str, Any]:
    """Return what a file of features says of itself: config, source and licence.

    Raises:
        CheckpointError: the file is missing, broken, something else, or from a newer limner.
    """
    if not Path(path).is_file():
        raise CheckpointError(f"the weights of the feature network are missing: {path} is no file")
    try:
        with safe_open(path, framework="pt") as file:
            header = json.loads((file.metadata() or {})[_KEY])
        version, config = header["limner"], header["config"]
    except (SafetensorError, OSError, LookupError, ValueError, TypeError) as error:
        raise CheckpointError(f"{path} holds no features of limner: {error}") from None
    if not isinstance(version, int) or version > FORMAT or not isinstance(config, dict):
        raise CheckpointError(
            f"{path} is of format {version!r}, and this limner reads up to {FORMAT}"
        )
    return dict(header)


def save_features(network: FeatureNetwork, path: str | Path, source: str, licence: str) -> None:
    """Write a network in half precision, whole or not at all.

    Args:
        source: what it learned from.
        licence: of the weights.

    Raises:
        DataError: the file cannot be written.
    """
    header = {
        "limner": FORMAT,
        "config": to_dict(network.config),
        "source": source,
        "licence": licence,
    }
    tensors = {name: t.to(torch.float16).contiguous() for name, t in network.state_dict().items()}
    with replaced(path) as temporary:
        save_file(tensors, temporary, metadata={_KEY: json.dumps(header)})
        temporary.chmod(0o644)  # safetensors makes files that only their owner can read
