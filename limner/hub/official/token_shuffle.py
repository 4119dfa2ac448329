"""Token-Shuffle's weights in the layout of the `transformers` library's Llama.

No weights are published. The decoder's names are those of that library, so that weights of a Llama
fit; the names around it are limner's own.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.errors import CheckpointError, ConfigError
from limner.core.registry import MODELS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.llama import block_rules
from limner.hub.official.tables import KeyTable, nested, rename
from limner.models.token_shuffle import TokenShuffleConfig

_RESIDUAL = [
    rename("norm.weight", "norm.weight"),
    rename("fc1.weight", "mlp.into.weight"),
    rename("fc2.weight", "mlp.out.weight"),
]


def table(config: TokenShuffleConfig) -> KeyTable:
    """Return the key table of a decoder of this size."""
    return KeyTable(
        [
            rename("model.embed_tokens.weight", "tokens.weight"),
            *nested("model.layers.{i}", "blocks.{i}", block_rules(config.heads, config.key_heads)),
            rename("model.norm.weight", "norm.weight"),
            rename("lm_head.weight", "output.weight"),
            rename("token_shuffle.compress.weight", "shuffle.compress.weight"),
            *nested("token_shuffle.blocks.{i}", "shuffle.blocks.{i}", _RESIDUAL),
            *nested("token_unshuffle.blocks.{i}", "unshuffle.blocks.{i}", _RESIDUAL),
            rename("token_unshuffle.expand.weight", "unshuffle.expand.weight"),
        ]
    )


def decoder_config(arguments: Mapping[str, Any], text_length: int) -> TokenShuffleConfig:
    """Return our configuration of the reference cases' arguments.

    Args:
        text_length: places of begin, prompt and the picture's start.
    """
    return TokenShuffleConfig(
        width=arguments["dim"],
        depth=arguments["layers"],
        heads=arguments["heads"],
        key_heads=arguments["kv_heads"],
        hidden=arguments["ffn"],
        codebook_size=arguments["codebook"],
        window=arguments["window"],
        window_depth=arguments["mlp_blocks"],
        window_hidden=arguments["mlp_hidden"],
        text_vocabulary=arguments["text_vocab"],
        begin=arguments["bos"],
        text_length=text_length,
        rotary_base=arguments["rope_theta"],
        norm_eps=arguments["norm_eps"],
        log_normaliser=arguments["z_loss_weight"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    for field in ("heads", "codebook_size"):
        if field not in given:
            raise ConfigError(f"{field} cannot be told from the weights: give {field}")
    rows, width = shapes["model.embed_tokens.weight"]
    heads = given["heads"]
    piece = shapes["token_shuffle.compress.weight"][0]
    depth, merging = (
        sum(name.startswith(stack) and name.endswith(last) for name in shapes)
        for stack, last in (
            ("model.layers.", "o_proj.weight"),
            ("token_shuffle.", "fc1.weight"),
        )
    )
    side = round((width / piece) ** 0.5)
    if piece * side**2 != width:
        raise CheckpointError(f"no square window turns a width of {width} into {piece}")
    return {
        "width": width,
        "depth": depth,
        "heads": heads,
        "key_heads": shapes["model.layers.0.self_attn.k_proj.weight"][0] * heads // width,
        "hidden": shapes["model.layers.0.mlp.gate_proj.weight"][0],
        "window": side,
        "window_depth": merging,
        "window_hidden": shapes["token_shuffle.blocks.0.fc1.weight"][0],
        "text_vocabulary": rows - 2 - given["codebook_size"],
        "codebook_size": given["codebook_size"],
        "tied": "lm_head.weight" not in shapes,
    }


CONVERTERS = (
    Converter(
        system="token-shuffle",
        registry=MODELS,
        family="token-shuffle",
        marks=("model.embed_tokens.weight", "token_shuffle.compress.weight"),
        infer=_infer,
        table=table,
    ),
)
(DECODER,) = CONVERTERS
