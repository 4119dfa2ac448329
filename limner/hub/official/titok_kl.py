"""The official weights of AR-Diffusion's tokenizers, with and without attention over frames.

Facts from src/vae/{titok_kl,titok_kl_wt,blocks_kl,blocks_kl_wt}.py of iva-mzsun/AR-Diffusion.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.errors import ConfigError, check
from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.convolution import RESIDUAL, same
from limner.hub.official.tables import KeyTable, Rule, nested, rename, split
from limner.layers.convolution import ConvolutionConfig
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.titok_kl import TiTokKLConfig

HEADS = {512: 8, 768: 12, 1024: 16}
"""Heads of the published sizes, by width: the weights alone do not tell them."""


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


def _attention(official: str, ours: str) -> list[Rule]:
    return [
        rename(f"{official}.in_proj_weight", f"{ours}.qkv.weight"),
        rename(f"{official}.in_proj_bias", f"{ours}.qkv.bias"),
        _each(f"{official}.out_proj", f"{ours}.out"),
    ]


_PARTS = ("query", "key", "value")
_BLOCK = [
    _each("ln_1", "attention_norm"),
    *_attention("attn", "attention"),
    _each("ln_2", "mlp_norm"),
    _each("mlp.c_fc", "mlp.into"),
    _each("mlp.c_proj", "mlp.out"),
]
_TRANSFORMER = [
    rename("class_embedding", "class_vector"),
    rename("positional_embedding", "places"),
    rename("latent_token_positional_embedding", "latent_places"),
    _each("ln_pre", "norm_in"),
    *nested("transformer.{i}", "blocks.{i}", _BLOCK),
    _each("ln_post", "norm_out"),
]
_FINE = [_each("ln_1", "norm"), *_attention("attn", "attention")]
_COARSE = [
    _each("ln_q", "query_norm"),
    _each("ln_k", "key_norm"),
    _each("ln_v", "value_norm"),
    split("attn.in_proj_weight", tuple(f"{part}.weight" for part in _PARTS)),
    split("attn.in_proj_bias", tuple(f"{part}.bias" for part in _PARTS)),
    _each("attn.out_proj", "out"),
]
_ENCODER = [*_TRANSFORMER, _each("patch_embed", "embed"), _each("conv_out", "out")]
_DECODER = [
    *_TRANSFORMER,
    rename("mask_token", "mask_token"),
    _each("decoder_embed", "into"),
    _each("ffn.0", "codes.0"),
    _each("ffn.2", "codes.2"),
    *nested("fine_temporal_blocks.{i}", "fine.{i}", _FINE),
    *nested("coarse_temporal_blocks.{i}", "coarse.{i}", _COARSE),
]


def _table(config: TiTokKLConfig) -> KeyTable:
    pixels = [*same("conv_in", "norm_out", "conv_out"), *nested("mid.{b}", "middle.{b}", RESIDUAL)]
    levels = len(config.pixels.multipliers)
    for level in range(levels):
        turned = f"levels.{levels - 1 - level}"
        pixels += nested(f"up.{level}.block.{{b}}", f"{turned}.blocks.{{b}}", RESIDUAL)
        pixels.append(_each(f"up.{level}.upsample_conv", f"{turned}.resample.conv"))
    return KeyTable(
        [
            rename("latent_tokens", "queries"),
            *nested("encoder", "encoder", _ENCODER),
            *nested("decoder", "decoder", _DECODER),
            _each("pixel_quantize_conv", "mean_code"),
            *nested("pixel_decoder", "pixels", pixels),
        ]
    )


def titok_config(arguments: Mapping[str, Any]) -> TiTokKLConfig:
    """Return our configuration of the official arguments."""
    sizes = arguments["pixel_decoder"]
    same_length = arguments["use_l2_norm"]
    check(same_length, "use_l2_norm", same_length, "True: vectors have length 1")
    pixels = ConvolutionConfig(
        channels=sizes["hidden_channels"],
        multipliers=tuple(sizes["channel_mult"]),
        blocks=sizes["num_res_blocks"],
        encoder_attention=(),
        decoder_attention=(),
        pictures=sizes["num_channels"],
    )
    patch = arguments["vit_dec_patch_size"]
    check(patch == pixels.factor, "vit_dec_patch_size", patch, f"{pixels.factor}, as pixels are")
    return TiTokKLConfig(
        StackConfig(
            arguments["width"], arguments["layers"], arguments["heads"], arguments["mlp_ratio"]
        ),
        size=arguments["image_size"],
        frames=arguments["num_frame"],
        patch=arguments["vit_enc_patch_size"],
        latents=arguments["num_latent_tokens"],
        latent=arguments["token_size"],
        codes=arguments["proxy_codes"],
        code_width=sizes["z_channels"],
        pixels=pixels,
        temporal=arguments["temporal"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    latents, width = shapes["latent_tokens"]
    heads = given.get("stack.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(
            f"heads cannot be told from weights of width {width}: give stack.heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    patch = shapes["encoder.patch_embed.weight"][-1]
    side = round((shapes["encoder.positional_embedding"][0] - 1) ** 0.5)
    code_width, codes = shapes["pixel_quantize_conv.weight"][:2]
    return {
        "stack": {
            "width": width,
            "depth": sum(name.endswith("mlp.c_fc.weight") for name in shapes) // 2,
            "heads": heads,
            "ratio": shapes["encoder.transformer.0.mlp.c_fc.weight"][0] / width,
        },
        "size": side * patch,
        "patch": patch,
        "latents": latents,
        "latent": shapes["decoder.decoder_embed.weight"][1],
        "codes": codes,
        "code_width": code_width,
        "pixels": _pixels(shapes),
        "temporal": "decoder.fine_temporal_blocks.0.ln_1.weight" in shapes,
    }


def _pixels(shapes: Shapes) -> dict[str, Any]:
    """Return the fields of the pixel decoder; channels are those of its finest level."""

    def widths(block: int) -> list[int]:
        found, level = [], 0
        while f"pixel_decoder.up.{level}.block.{block}.conv2.weight" in shapes:
            found.append(shapes[f"pixel_decoder.up.{level}.block.{block}.conv2.weight"][0])
            level += 1
        return found

    levels, blocks = widths(0), 1
    while widths(blocks):
        blocks += 1
    channels = min(levels)
    return {
        "channels": channels,
        "multipliers": [width // channels for width in levels],
        "blocks": blocks,
        "encoder_attention": [],
        "decoder_attention": [],
        "pictures": shapes["pixel_decoder.conv_out.weight"][0],
    }


CONVERTERS = (
    Converter(
        system="titok-kl",
        registry=TOKENIZERS,
        family="titok-kl",
        marks=("latent_tokens", "decoder.decoder_embed.weight", "pixel_quantize_conv.weight"),
        infer=_infer,
        table=_table,
        licence=UNKNOWN_LICENCE,
    ),
)
(TITOK_KL,) = CONVERTERS
