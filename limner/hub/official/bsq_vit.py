"""BSQ-ViT's official weights.

Facts from transcoder/models/{bsqvit,transformer}.py of zhaoyue-zephyrus/bsq-vit. The files hold the
state dict under "state_dict" and its moving average, which is the one to use, under
"ema_state_dict".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.errors import ConfigError
from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.quantizers import bsq_config
from limner.hub.official.tables import KeyTable, nested, rename
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.bsq_vit import BSQViTConfig

LICENCE = "MIT (https://github.com/zhaoyue-zephyrus/bsq-vit)"

HEADS = {768: 12}
"""Heads of the published size, by width: the weights alone do not tell them."""

_TRANSFORMER = [
    rename("positional_embedding", "places"),
    rename("ln_pre.{parameter}", "norm_in.{parameter}"),
    rename("ln_post.{parameter}", "norm_out.{parameter}"),
    *nested(
        "transformer.resblocks.{i}",
        "blocks.{i}",
        [
            rename("ln_1.{parameter}", "attention_norm.{parameter}"),
            rename("attn.in_proj_{parameter}", "attention.qkv.{parameter}"),
            rename("attn.out_proj.{parameter}", "attention.out.{parameter}"),
            rename("ln_2.{parameter}", "mlp_norm.{parameter}"),
            rename("mlp.c_fc.{parameter}", "mlp.into.{parameter}"),
            rename("mlp.c_proj.{parameter}", "mlp.out.{parameter}"),
        ],
    ),
]
_TABLE = KeyTable(
    [
        rename("encoder.conv1.weight", "embed.weight"),
        *nested("encoder", "encoder", _TRANSFORMER),
        rename("quant_embed.{parameter}", "into.{parameter}"),
        rename("post_quant_embed.{parameter}", "out.{parameter}"),
        *nested("decoder", "decoder", _TRANSFORMER),
        rename("decoder.ffn.0.{parameter}", "painter.{parameter}"),
        rename("decoder.conv_out.{parameter}", "pixels.{parameter}"),
    ],
    ignored=["quantize.basis", "quantize.group_basis"],
)


def vit_config(arguments: Mapping[str, Any]) -> BSQViTConfig:
    """Return our configuration of the official `VITBSQModel`'s arguments."""
    encoder, decoder = arguments["vitconfig"], arguments["dvitconfig"]
    return BSQViTConfig(
        size=encoder["image_size"],
        patch=encoder["patch_size"],
        encoder=_transformer(encoder),
        decoder=_transformer(decoder),
        painter=decoder.get("dim_ffn_output", 3072),
        quantizer=bsq_config(arguments),
    )


def _transformer(sizes: Mapping[str, Any]) -> StackConfig:
    ratio = float(sizes.get("mlp_ratio", 4.0))
    return StackConfig(sizes["width"], sizes["layers"], sizes["heads"], ratio)


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    patch = round((shapes["encoder.conv1.weight"][1] / 3) ** 0.5)
    return {
        "size": patch * round(shapes["encoder.positional_embedding"][0] ** 0.5),
        "patch": patch,
        "encoder": _infer_transformer(shapes, given, "encoder"),
        "decoder": _infer_transformer(shapes, given, "decoder"),
        "painter": shapes["decoder.ffn.0.weight"][0],
        "quantizer": {"bits": shapes["quant_embed.weight"][0], "commitment": 0.25},
    }


def _infer_transformer(shapes: Shapes, given: Mapping[str, Any], part: str) -> dict[str, Any]:
    width = shapes[f"{part}.ln_pre.weight"][0]
    heads = given.get(f"{part}.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(f"{part}.heads cannot be told from weights: give {part}.heads")
    blocks = f"{part}.transformer.resblocks."
    return {
        "width": width,
        "depth": sum(n.startswith(blocks) and n.endswith("ln_1.weight") for n in shapes),
        "heads": heads,
        "ratio": shapes[f"{blocks}0.mlp.c_fc.weight"][0] / width,
    }


CONVERTERS = (
    Converter(
        system="bsq-vit",
        registry=TOKENIZERS,
        family="bsq-vit",
        marks=("encoder.conv1.weight", "quant_embed.weight", "decoder.ffn.0.weight"),
        infer=_infer,
        table=lambda config: _TABLE,
        licence=LICENCE,
    ),
)
(BSQ_VIT,) = CONVERTERS
