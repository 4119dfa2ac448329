"""The official weights of VQGAN's losses: LPIPS with its VGG16, and the discriminator.

Facts from taming/modules/losses/{vqperceptual,lpips}.py and taming/modules/discriminator/model.py
of CompVis/taming-transformers.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.hub.build import fill
from limner.hub.official import lpips_networks
from limner.hub.official.tables import KeyTable, nested, rename
from limner.layers.discriminator import DiscriminatorConfig, PatchDiscriminator
from limner.layers.perceptual import LPIPS
from limner.tokenizers.objective import Objective, ObjectiveConfig

_LPIPS = [
    rename("scaling_layer.shift", "shift"),
    rename("scaling_layer.scale", "scale"),
    *lpips_networks.rules("vgg"),
]
_DISCRIMINATOR = [
    rename("main.{i}.{parameter}", "{i}.{parameter}"),
    rename("main.{i}.running_mean", "{i}.running_mean"),
    rename("main.{i}.running_var", "{i}.running_var"),
    rename("main.{i}.num_batches_tracked", "{i}.num_batches_tracked"),
    rename("main.{i}.loc", "{i}.shift"),
    rename("main.{i}.scale", "{i}.scale"),
    rename("main.{i}.initialized", "{i}.initialized"),
]
OBJECTIVE = KeyTable(
    [
        *nested("perceptual_loss", "perceptual", _LPIPS),
        *nested("discriminator", "discriminator", _DISCRIMINATOR),
    ]
)
DISCRIMINATOR = KeyTable(_DISCRIMINATOR)

State = Mapping[str, Tensor]


def objective(arguments: Mapping[str, Any], state: State) -> Objective:
    """Return the official `VQLPIPSWithDiscriminator`, in evaluation mode."""
    config = ObjectiveConfig(
        perceptual=arguments["perceptual_weight"],
        codes=arguments["codebook_weight"],
        adversarial=arguments["disc_weight"],
        factor=arguments["disc_factor"],
        start=arguments["disc_start"],
        loss="logistic" if arguments.get("disc_loss") == "vanilla" else "hinge",
        discriminator=discriminator_config(arguments),
    )
    module = Objective(config, LPIPS(tuple(arguments["vgg_widths"])))
    fill(module, OBJECTIVE.to_ours(state), "the losses")
    assert module.perceptual is not None
    module.perceptual.requires_grad_(False)
    return module.eval()


def discriminator(arguments: Mapping[str, Any], state: State) -> PatchDiscriminator:
    """Return the official `NLayerDiscriminator`, in evaluation mode."""
    module = PatchDiscriminator(discriminator_config(arguments))
    fill(module, DISCRIMINATOR.to_ours(state), "the discriminator")
    return module.eval()


def discriminator_config(arguments: Mapping[str, Any]) -> DiscriminatorConfig:
    """Return our configuration of the official discriminator's arguments."""
    return DiscriminatorConfig(
        channels=arguments["disc_ndf"],
        depth=arguments["disc_num_layers"],
        pictures=arguments["disc_in_channels"],
        actnorm=arguments.get("use_actnorm", False),
    )
