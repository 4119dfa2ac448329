"""The official weights of NBP's tokenizer.

Facts from nbp/magvit2.py of RenShuhuai-Andy/NBP. The files (`magvit2_{ucf,k600}.pt`) hold the state
dict under "model_state_dict", every name behind "module.".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, rename
from limner.tokenizers.magvit2_fsq import MAGVIT2FSQConfig

LEVELS = {6: [8, 8, 8, 5, 5, 5]}
"""Levels of the published quantiser, by their number: it has no weights."""


def _layers(official: str, ours: str) -> list[Rule]:
    """Return the rules of one side; numbers of layers are the same."""
    names = {
        "{parameter}": "{parameter}",  # a norm, or the last convolution of the encoder
        "beta": "beta",
        "conv.{parameter}": "conv.{parameter}",
        "fn.0.{parameter}": "norm1.{parameter}",
        "fn.1.beta": "activation1.beta",
        "fn.2.conv.{parameter}": "conv1.conv.{parameter}",
        "fn.3.{parameter}": "norm2.{parameter}",
        "fn.4.beta": "activation2.beta",
        "fn.5.conv.{parameter}": "conv2.conv.{parameter}",
        "residual_fn.0.conv.{parameter}": "shortcut.conv.{parameter}",
    }
    return [rename(f"{official}.{{i}}.{a}", f"{ours}.{{i}}.{b}") for a, b in names.items()]


TABLE = KeyTable([*_layers("encoder_layers", "encoder"), *_layers("decoder_layers", "decoder")])


def tokenizer_config(arguments: Mapping[str, Any]) -> MAGVIT2FSQConfig:
    """Return our configuration of the official sizes."""
    return MAGVIT2FSQConfig(
        widths=tuple(arguments["widths"]),
        blocks=arguments["res_blocks"],
        groups=arguments["norm_groups"],
        levels=tuple(arguments["fsq_levels"]),
        frames=arguments["frames"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    strides = [
        int(name.split(".")[1])
        for name in shapes
        if name.startswith("encoder_layers.") and name.endswith(".conv.weight")
        if name.count(".") == 3
    ]
    # the first convolution and the first change of size stand around the units of a stage
    blocks = sorted(strides)[1] - 1
    last = max(int(name.split(".")[1]) for name in shapes if name.startswith("encoder_layers."))
    latent, coarse = shapes[f"encoder_layers.{last}.weight"][:2]
    return {
        "widths": [
            shapes["encoder_layers.0.conv.weight"][0],
            shapes[f"encoder_layers.{2 * blocks + 2}.conv.weight"][0],
            coarse,
        ],
        "blocks": blocks,
        "levels": given.get("levels", LEVELS.get(latent)),
    }


CONVERTERS = (
    Converter(
        system="magvit2-fsq",
        registry=TOKENIZERS,
        family="magvit2-fsq",
        marks=("encoder_layers.0.conv.weight", "decoder_layers.0.conv.weight"),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
)
(MAGVIT2_FSQ,) = CONVERTERS
