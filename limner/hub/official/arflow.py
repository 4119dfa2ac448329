"""ARFlow's official weights.

Facts from models.py and train.py of TheFllood/ARFlow. The files hold the state dict bare, or its
moving average, which is the one to use, under "ema".
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.tables import KeyTable, Reorder, Rule, join, nested, rename
from limner.layers.vision_transformer import StackConfig
from limner.models.arflow import ARFlowConfig

HEADS = {384: 6, 768: 12, 1024: 16, 1152: 18}
"""Heads of the published sizes, by width: the weights alone do not tell them."""


@dataclass(frozen=True)
class Flat:
    """A strided convolution over patches; ours is a linear layer over a patch's numbers.

    Args:
        channels: of the latents.
        patch: side of a patch.
    """

    channels: int
    patch: int

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put channels, rows and columns into one dimension."""
        return (tensors[0].flatten(1),)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Part them."""
        return (tensors[0].unflatten(1, (self.channels, self.patch, self.patch)),)


@dataclass(frozen=True)
class ChannelsFirst:
    """Output rows by place in the patch, then channel; ours are by channel, then place.

    Args:
        channels: with the ballast.
        patch: side of a patch.
    """

    channels: int
    patch: int

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Bring channels to the front."""
        return (_turned(tensors[0], self.patch**2),)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Bring channels to the back."""
        return (_turned(tensors[0], self.channels),)


def _turned(rows: Tensor, count: int) -> Tensor:
    """Return rows that are `count` groups with the members of all groups side by side instead."""
    return rows.unflatten(0, (count, -1)).transpose(0, 1).flatten(0, 1)


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


def _modulation(official: str, ours: str, order: tuple[int, ...]) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}", Reorder(order))


_BLOCK = [
    join(tuple(f"attn.{part}_proj.weight" for part in "qkvg"), "attention.qkvg.weight"),
    rename("attn.gt_proj.weight", "attention.decay.weight"),
    rename("attn.out_proj.weight", "attention.out.weight"),
    _each("mlp.fc1", "mlp.into"),
    _each("mlp.fc2", "mlp.out"),
    _modulation("adaLN_modulation.1", "modulation.linear", (2, 5, 1, 4, 0, 3)),
]


def table(config: ARFlowConfig) -> KeyTable:
    """Return the key table of a network.

    The fixed places of one picture size are left out: ours follow from the layout.
    """
    channels, patch = config.channels, math.isqrt(config.token_width // config.channels)
    rows = ChannelsFirst((2 if config.ballast else 1) * channels, patch)
    return KeyTable(
        [
            rename("x_embedder.proj.weight", "into.weight", Flat(channels, patch)),
            rename("x_embedder.proj.bias", "into.bias"),
            _each("t_embedder.mlp.0", "time.into"),
            _each("t_embedder.mlp.2", "time.out"),
            rename("y_embedder.embedding_table.weight", "condition.table.weight"),
            *nested("blocks.{i}", "blocks.{i}", _BLOCK),
            _modulation("final_layer.adaLN_modulation.1", "norm.modulation.linear", (1, 0)),
            rename("final_layer.linear.{parameter}", "output.{parameter}", rows),
        ],
        ignored=["pos_embed"],
    )


def flow_config(arguments: Mapping[str, Any]) -> ARFlowConfig:
    """Return our configuration of the official arguments of network, training and sampling."""
    patch, channels = arguments["patch_size"], arguments["in_channels"]
    stack = StackConfig(
        arguments["hidden_size"],
        arguments["depth"],
        arguments["num_heads"],
        arguments.get("mlp_ratio", 4.0),
    )
    return ARFlowConfig(
        stack,
        token_width=channels * patch**2,
        channels=channels,
        ballast=arguments["learn_sigma"],
        classes=arguments["num_classes"],
        sequence=arguments["images_per_sequence"],
        normaliser=arguments["gate_logit_normalizer"],
        norm_eps=arguments["norm_eps"],
        steps=arguments["num_steps"],
        last=arguments["last_step_size"],
        guided_channels=min(3, channels),
        condition_dropout=arguments["class_dropout_prob"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    width, channels, patch, _ = shapes["x_embedder.proj.weight"]
    heads = given.get("stack.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(
            f"stack.heads cannot be told from weights of width {width}: give stack.heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    token_width = channels * patch**2
    return {
        "stack": {
            "width": width,
            "depth": sum(name.endswith("attn.out_proj.weight") for name in shapes),
            "heads": heads,
            "ratio": shapes["blocks.0.mlp.fc1.weight"][0] / width,
        },
        "token_width": token_width,
        "channels": channels,
        "ballast": shapes["final_layer.linear.weight"][0] > token_width,
        "classes": shapes["y_embedder.embedding_table.weight"][0] - 1,
        "guided_channels": min(3, channels),
    }


CONVERTERS = (
    Converter(
        system="arflow",
        registry=MODELS,
        family="arflow",
        marks=(
            "x_embedder.proj.weight",
            "blocks.0.attn.gt_proj.weight",
            "final_layer.linear.weight",
        ),
        infer=_infer,
        table=table,
    ),
)
(FLOW,) = CONVERTERS
