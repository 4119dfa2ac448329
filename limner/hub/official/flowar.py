"""FlowAR's official weights: the next-scale transformer with its flow head.

Facts from models/{flowar,flowmodel}.py of OliverRensu/FlowAR. The files (`FlowAR-S.pth`, ...) hold
bare state dicts; training checkpoints hold the moving average, which is the one to use, under
"model_ema". Its autoencoder is MAR's (`mar-vae`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.flow import FlowConfig
from limner.heads.guidance import schedule
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Reorder, Rule, nested, rename
from limner.layers.flow_transformer import FlowTransformerConfig
from limner.models.flowar import FlowARConfig

KNOWN = {768: (12, 25, 0.9), 1024: (16, 25, 0.9), 1536: (16, 50, 0.7)}
"""Heads, solver steps and flow time of guidance of the published sizes, by width: the weights
alone do not tell them."""


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


_MLP = [_each("fc1_g", "gate"), _each("fc1_x", "value"), _each("fc2", "out")]
_ATTENTION = [_each("qkv", "qkv"), _each("proj", "out")]
_BLOCK = [
    *nested("attn", "attention", _ATTENTION),
    *nested("mlp", "mlp", _MLP),
    _each("ada_lin.1", "modulation.linear"),
]
_FLOW_BLOCK = [
    *nested("attn", "attention", _ATTENTION),
    *nested("mlp", "mlp", _MLP),
    rename("ada_lin.weight", "modulation.linear.weight"),
    rename("ada_lin.bias", "modulation.linear.bias"),
    _each("ada_lin_attn", "attention_modulation.linear"),
    _each("ada_lin_mlp", "mlp_modulation.linear"),
    rename("norm2_1.weight", "query_norm.weight"),
    rename("norm2_2.weight", "condition_norm.weight"),
    rename("crossattn.q.weight", "cross.query.weight"),
    rename("crossattn.kv.weight", "cross.keys_values.weight"),
    _each("crossattn.proj", "cross.out"),
]
_VELOCITY = [
    _each("time_embed.mlp.0", "time.into"),
    _each("time_embed.mlp.2", "time.out"),
    _each("cond_embed", "condition"),
    _each("input_proj", "into"),
    *nested("res_blocks.{k}", "blocks.{k}", _FLOW_BLOCK),
    # official chunks are shift, scale
    rename(
        "final_layer.adaLN_modulation.1.{parameter}",
        "norm.modulation.linear.{parameter}",
        Reorder((1, 0)),
    ),
    _each("final_layer.linear", "out"),
]
TABLE = KeyTable(
    [
        rename("class_emb.weight", "condition.table.weight"),
        _each("z_proj", "into"),
        rename("encoder_pos_embed_learned", "encoder_places"),
        rename("z_proj_ln.weight", "into_norm.weight"),
        *nested("encoder_blocks.{i}", "encoder.{i}", _BLOCK),
        rename("encoder_norm.weight", "encoder_norm.weight"),
        _each("decoder_embed", "between"),
        rename("decoder_pos_embed_learned", "decoder_places"),
        *nested("decoder_blocks.{i}", "decoder.{i}", _BLOCK),
        rename("decoder_norm.weight", "decoder_norm.weight"),
        rename("diffusion_pos_embed_learned", "output_places"),
        *nested("flownet", "head.network", _VELOCITY),
    ],
    ignored=[
        "mask",
        "encoder_blocks.{i}.attn.rope.freqs",
        "decoder_blocks.{i}.attn.rope.freqs",
        "flownet.res_blocks.{k}.attn.rope.freqs",
        "flownet.res_blocks.{k}.crossattn.rope.freqs",
    ],
)


def flowar_config(arguments: Mapping[str, Any], classes: int = 1000) -> FlowARConfig:
    """Return our configuration of the official `FlowAR` arguments.

    Args:
        classes: the official table always has 1001 rows, whatever its arguments say.
    """
    span, base = arguments["rope_pt_seq_len"], arguments["rope_theta"]
    ratio = arguments["mlp_ratio"]
    return FlowARConfig(
        width=arguments["dim"],
        encoder_depth=arguments["encoder_depth"],
        decoder_depth=arguments["decoder_depth"],
        heads=arguments["num_heads"],
        velocity=FlowTransformerConfig(
            width=arguments["flow_width"],
            depth=arguments["flow_depth"],
            head_width=arguments["flow_width"] // arguments["flow_heads"],
            cross=arguments["cross"],
            ratio=ratio,
            span=span,
            base=base,
        ),
        flow=flow_config(arguments),
        token_width=arguments["vae_embed_dim"] * arguments["patch_size"] ** 2,
        classes=classes,
        scales=tuple(arguments["scale"]),
        ratio=ratio,
        span=span,
        base=base,
    )


def flow_config(arguments: Mapping[str, Any]) -> FlowConfig:
    """Return our configuration of the official sampler's arguments."""
    return FlowConfig(arguments["num_steps"], times="flowar", guided_from=arguments["guidance"])


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `sample_tokens` arguments; a `cfg` of 1 is off."""
    return Options(schedule("ramp", arguments["cfg"]))


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    length, width = shapes["encoder_pos_embed_learned"][1:]
    heads, steps, guided_from = KNOWN.get(width, (given.get("heads"), 25, 0.9))
    if heads is None:
        raise ConfigError(
            f"heads cannot be told from weights of width {width}: give heads "
            f"(known by width: {', '.join(map(str, KNOWN))})"
        )
    flow_width, token_width = shapes["flownet.input_proj.weight"]
    cross = "flownet.res_blocks.0.crossattn.q.weight" in shapes
    return {
        "width": width,
        "encoder_depth": _count(shapes, "encoder_blocks"),
        "decoder_depth": _count(shapes, "decoder_blocks"),
        "heads": heads,
        "velocity": {
            "width": flow_width,
            "depth": _count(shapes, "flownet.res_blocks"),
            "cross": cross,
        },
        "flow": {"steps": steps, "times": "flowar", "guided_from": guided_from},
        "token_width": token_width,
        "classes": shapes["class_emb.weight"][0] - 1,
        "scales": given.get("scales") or _doubling(length),
    }


def _count(shapes: Shapes, stack: str) -> int:
    """Return how many blocks of a stack there are."""
    return sum(name.startswith(f"{stack}.") and name.endswith("attn.qkv.weight") for name in shapes)


def _doubling(length: int) -> list[int]:
    """Return the sides 1, 2, 4, ... of a pyramid with so many tokens."""
    sides = [1]
    while sum(side**2 for side in sides) < length:
        sides.append(2 * sides[-1])
    if sum(side**2 for side in sides) != length:
        raise ConfigError(f"scales cannot be told from {length} tokens: give scales")
    return sides


CONVERTERS = (
    Converter(
        system="flowar",
        registry=MODELS,
        family="flowar",
        marks=("z_proj_ln.weight", "encoder_pos_embed_learned", "flownet.input_proj.weight"),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
)
(FLOWAR,) = CONVERTERS
