"""The network of the perceptual loss, by the name that recipes give it."""

from __future__ import annotations

from torch import nn

from limner.core.errors import check
from limner.hub.networks import load_lpips
from limner.hub.packaged import load_features
from limner.layers.perceptual import FeatureDistance

NAMES = ("packaged", "lpips-vgg", "lpips-alex")


def perceptual_network(name: str | None) -> nn.Module | None:
    """Return the network of a perceptual loss: (pictures, pictures) -> distances [B].

    Args:
        name: "packaged": limner's own small network; "lpips-vgg" or "lpips-alex": LPIPS, whose
            weights are looked for where `load_lpips` says; None: none.

    Raises:
        ConfigError: another name.
        CheckpointError: LPIPS without weights; says where users get them.
    """
    if name is None:
        return None
    check(name in NAMES, "perceptual", name, f"null or one of {', '.join(NAMES)}")
    if name == "packaged":
        return FeatureDistance(load_features())
    return load_lpips("vgg" if name == "lpips-vgg" else "alex")
