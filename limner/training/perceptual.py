"""The network of the perceptual loss, by the name that recipes give it."""

from __future__ import annotations

from pathlib import Path

from torch import nn

from limner.core.errors import ConfigError


def perceptual_network(name: str | None) -> nn.Module | None:
    """Return the network of a perceptual loss: (pictures, pictures) -> distances [B].

    Args:
        name: "packaged": limner's own small network; a file of LPIPS weights; None: none.

    Raises:
        ConfigError: no such file.
        CheckpointError: a file that holds no LPIPS weights.
    """
    if name is None:
        return None
    if name == "packaged":
        from limner.hub.packaged import load_features
        from limner.layers.perceptual import FeatureDistance

        return FeatureDistance(load_features())
    file = Path(name).expanduser()
    if not file.is_file():
        raise ConfigError(
            f"perceptual={name!r} is not accepted: perceptual must be 'packaged', null, or a file "
            "of LPIPS weights"
        )
    from limner.hub.official.lpips import load_lpips

    return load_lpips(file)
