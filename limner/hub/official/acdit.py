"""ACDiT's official weights: the transformer over clean and noisy blocks.

Facts from models.py and rope.py of thunlp/ACDiT. The files (`ACDiT-XL-img.pt`, ...) hold the state
dict under "model" and the script's arguments under "args"; block size, shape of blocks and shares
of the axes stand there alone and have to be given. The autoencoder is `kl-8`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.guidance import Constant
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Reorder, Rule, nested, rename
from limner.layers.axial_mixing import HEAD
from limner.layers.vision_transformer import StackConfig
from limner.models.acdit import ACDiTConfig


def _each(official: str, ours: str, change: Reorder | None = None) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}", change)


_BLOCK = [
    rename("norm1.weight", "norm.weight"),
    _each("attn.qkv", "attention.qkv"),
    rename("attn.q_norm.weight", "attention.query_norm.weight"),
    rename("attn.k_norm.weight", "attention.key_norm.weight"),
    _each("attn.proj", "attention.out"),
    rename("norm2.weight", "mlp_norm.weight"),
    _each("mlp.fc1", "mlp.into"),
    _each("mlp.fc2", "mlp.out"),
    # official chunks: shift, scale and gate of the attention, then of the MLP
    _each("adaLN_modulation.1", "modulation.linear", Reorder((2, 5, 1, 4, 0, 3))),
]
TABLE = KeyTable(
    [
        _each("t_embedder.mlp.0", "time.into"),
        _each("t_embedder.mlp.2", "time.out"),
        rename("y_embedder.embedding_table.weight", "condition.table.weight"),
        rename("x_embedder.weight", "into.weight"),
        *nested("blocks.{i}", "blocks.{i}", _BLOCK),
        rename("final_layer.norm_final.weight", "norm.norm.weight"),
        # official chunks: shift, scale
        _each("final_layer.adaLN_modulation.1", "norm.modulation.linear", Reorder((1, 0))),
        _each("final_layer.linear", "output"),
    ]
)


def acdit_config(arguments: Mapping[str, Any]) -> ACDiTConfig:
    """Return our configuration of the official `ACDiT` arguments."""
    return ACDiTConfig(
        StackConfig(
            arguments["hidden_size"],
            arguments["depth"],
            arguments["num_heads"],
            arguments["mlp_ratio"],
        ),
        token_width=arguments["latent_size"],
        block=arguments["block_size"],
        square=arguments["square_block"],
        split=_split(arguments),
        classes=arguments["num_classes"],
        condition_dropout=arguments["class_dropout_prob"],
    )


def _split(arguments: Mapping[str, Any]) -> tuple[int, ...]:
    """Return the shares of the axes, as they are given or from the channels of each."""
    widths = arguments.get("split_dims")
    if arguments.get("nd_split") is not None or widths is None:
        return axis_shares(arguments.get("nd_split"))
    unit = math.gcd(*widths)
    return tuple(width // unit for width in widths)


def axis_shares(text: str | None) -> tuple[int, ...]:
    """Return the shares that the official `nd_split` stands for, "2_3_3"; None: none."""
    return () if text is None else tuple(map(int, text.split("_")))


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `sample` arguments; a `cfg` up to 1 is off."""
    return Options(Constant(max(1.0, arguments["cfg"])))


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    width, token_width = shapes["x_embedder.weight"]
    depth = sum(name.endswith(".attn.qkv.weight") for name in shapes)
    ratio = shapes["blocks.0.mlp.fc1.weight"][0] / width
    return {
        "stack": {"width": width, "depth": depth, "heads": width // HEAD, "ratio": ratio},
        "token_width": token_width,
        "classes": shapes["y_embedder.embedding_table.weight"][0] - 1,
    }


CONVERTERS = (
    Converter(
        system="acdit",
        registry=MODELS,
        family="acdit",
        marks=("x_embedder.weight", "blocks.0.attn.q_norm.weight", "final_layer.norm_final.weight"),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
)
(ACDIT,) = CONVERTERS
