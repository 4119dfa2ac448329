"""The official weights of LPIPS, version 0.1, by the features of VGG16 or AlexNet.

Facts from the package lpips 0.1.4 (richzhang/PerceptualSimilarity). Its files (`alex.pth`,
`vgg.pth`) hold the heads only, `lin{k}.model.1.weight`; the trunks are torchvision's files, with
`features.{n}.{weight,bias}`, which the package regroups as `net.slice{k}.{n}`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from torch import Tensor

from limner.hub.build import fill, weightless
from limner.hub.official.tables import KeyTable, Rule, Squeeze, rename
from limner.layers.alexnet import AlexNetLPIPS
from limner.layers.perceptual import LPIPS

Net = Literal["vgg", "alex"]
State = Mapping[str, Tensor]

NETWORKS: dict[Net, type[LPIPS]] = {"vgg": LPIPS, "alex": AlexNetLPIPS}
_CONVOLUTIONS: dict[Net, tuple[tuple[int, ...], ...]] = {
    "vgg": ((0, 2), (5, 7), (10, 12, 14), (17, 19, 21), (24, 26, 28)),
    "alex": ((0,), (3,), (6,), (8,), (10,)),
}
"""Numbers of the convolutions in each slice."""


def rules(net: Net) -> list[Rule]:
    """Return what the weights of heads and trunk are called here."""
    given = [rename("lin{k}.model.1.weight", "weights.{k}", Squeeze((0, 2, 3)))]
    for stage, numbers in enumerate(_CONVOLUTIONS[net]):
        for place, number in enumerate(numbers):
            official = f"net.slice{stage + 1}.{number}.{{parameter}}"
            given.append(rename(official, f"stages.{stage}.{place}.{{parameter}}"))
    return given


def table(net: Net) -> KeyTable:
    """Return the key table of a network as the package holds it."""
    return KeyTable(rules(net), ignored=["scaling_layer.{rest}", "lins.{rest}"])


def shapes(net: Net) -> dict[str, tuple[int, ...]]:
    """Return the official names of all weights, with their shapes."""
    with weightless():
        state = dict(NETWORKS[net]().named_parameters())
    return {name: tuple(tensor.shape) for name, tensor in table(net).to_official(state).items()}


def lpips(net: Net, state: State, source: str = "the weights") -> LPIPS:
    """Return a network with official weights, in evaluation mode.

    Raises:
        CheckpointError: the weights are those of something else.
    """
    module = NETWORKS[net]()
    constants = dict(module.named_buffers())
    fill(module, {**constants, **table(net).to_ours(state)}, source)
    return module.requires_grad_(False).eval()


def joined(net: Net, heads: State, trunk: State) -> dict[str, Tensor]:
    """Return the weights of a network whose heads and trunk come from two files.

    Args:
        heads: as the package lpips has them.
        trunk: as torchvision has it; its classifier is left out.
    """
    state = {name: tensor for name, tensor in heads.items() if name.startswith("lin")}
    for stage, numbers in enumerate(_CONVOLUTIONS[net]):
        for number in numbers:
            for parameter in ("weight", "bias"):
                name = f"{number}.{parameter}"
                if f"features.{name}" in trunk:
                    state[f"net.slice{stage + 1}.{name}"] = trunk[f"features.{name}"]
    return state
