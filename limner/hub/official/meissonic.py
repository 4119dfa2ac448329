"""Meissonic's official weights: the transformer and its tokenizer, in the layout of diffusers.

Facts from src/transformer.py of viiika/Meissonic and models/autoencoders/{vq_model,vae}.py of
huggingface/diffusers 0.31.0. The folders `transformer` and `vqvae` of MeissonFlow/Meissonic and
Collov-Labs/Monetico hold `diffusion_pytorch_model.safetensors`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from limner.core.errors import ConfigError, check
from limner.core.registry import MODELS, TOKENIZERS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import same
from limner.hub.official.tables import KeyTable, Reorder, Rule, Squeeze, join, nested, rename
from limner.layers.convolution import ConvolutionConfig
from limner.models.meissonic import MeissonicConfig
from limner.tokenizers.meissonic_vq import MeissonicVQConfig

AXES = {128: (16, 56, 56)}
"""Channels that text, rows and columns turn, by width of a head: the weights do not tell them."""


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


def _norm(official: str, ours: str) -> Rule:
    return rename(f"{official}.weight", f"{ours}.weight")


def _point(official: str, ours: str) -> Rule:
    """A 1x1 convolution; ours is a linear layer."""
    return rename(f"{official}.weight", f"{ours}.weight", Squeeze((2, 3)))


def _projection(names: str, norms: str, ours: str) -> list[Rule]:
    parts = tuple(f"attn.{names.format(part)}.{{parameter}}" for part in "qkv")
    return [
        join(parts, f"{ours}.qkv.{{parameter}}"),
        _norm(f"attn.{norms}_q", f"{ours}.query_norm"),
        _norm(f"attn.{norms}_k", f"{ours}.key_norm"),
    ]


def _modulation(official: str, ours: str, order: tuple[int, ...]) -> Rule:
    """Shift, scale and gate of every branch; ours are gates, scales, shifts."""
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}", Reorder(order))


_GROUPED = (2, 5, 1, 4, 0, 3)

_JOINT = [
    _modulation("norm1.linear", "picture.modulation.linear", _GROUPED),
    _modulation("norm1_context.linear", "text.modulation.linear", _GROUPED),
    *_projection("to_{}", "norm", "picture.attention"),
    *_projection("add_{}_proj", "norm_added", "text.attention"),
    _each("attn.to_out.0", "picture.attention.out"),
    _each("attn.to_add_out", "text.attention.out"),
    _each("ff.net.0.proj", "picture.mlp.into"),
    _each("ff.net.2", "picture.mlp.out"),
    _each("ff_context.net.0.proj", "text.mlp.into"),
    _each("ff_context.net.2", "text.mlp.out"),
]
_SINGLE = [
    _modulation("norm.linear", "modulation.linear", (2, 1, 0)),
    *_projection("to_{}", "norm", "attention"),
    _each("proj_mlp", "into"),
    _each("proj_out", "out"),
]
_TRANSFORMER = KeyTable(
    [
        _norm("embed.embeddings", "codes"),
        _norm("embed.layer_norm", "codes_norm"),
        _point("embed.conv", "codes_out"),
        _each("context_embedder", "text"),
        _norm("encoder_proj_layer_norm", "text_norm"),
        _norm("cond_embed.linear_1", "vector.into"),
        _norm("cond_embed.linear_2", "vector.between"),
        _each("time_text_embed.text_embedder.linear_1", "vector.text_into"),
        _each("time_text_embed.text_embedder.linear_2", "vector.text_out"),
        _each("time_text_embed.timestep_embedder.linear_1", "vector.time.into"),
        _each("time_text_embed.timestep_embedder.linear_2", "vector.time.out"),
        _norm("down_block.downsample.norm", "compress.norm"),
        _norm("down_block.downsample.conv", "compress.conv"),
        _norm("project_to_hidden_norm", "into_norm"),
        _norm("project_to_hidden", "into"),
        *nested("transformer_blocks.{i}", "joint.{i}", _JOINT),
        *nested("single_transformer_blocks.{i}", "single.{i}", _SINGLE),
        _norm("project_from_hidden_norm", "out_norm"),
        _norm("project_from_hidden", "out"),
        _norm("up_block.upsample.norm", "restore.norm"),
        _norm("up_block.upsample.conv", "restore.conv"),
        _point("mlm_layer.conv1", "output_into"),
        _norm("mlm_layer.layer_norm", "output_norm"),
        _point("mlm_layer.conv2", "output"),
    ]
)


def _half(blocks: str, resample: str) -> list[Rule]:
    residual = [*same("norm1", "conv1", "norm2", "conv2"), _each("conv_shortcut", "shortcut")]
    return [
        *same("conv_in", "conv_out"),
        _each("conv_norm_out", "norm_out"),
        *nested(f"{blocks}.{{l}}.resnets.{{b}}", "levels.{l}.blocks.{b}", residual),
        _each(f"{blocks}.{{l}}.{resample}.0.conv", "levels.{l}.resample.conv"),
        *nested("mid_block.resnets.0", "middle.0", residual),
        *nested("mid_block.resnets.1", "middle.2", residual),
    ]


_VQ = KeyTable(
    [
        *nested("encoder", "encoder", _half("down_blocks", "downsamplers")),
        *nested("decoder", "decoder", _half("up_blocks", "upsamplers")),
        *same("quant_conv", "post_quant_conv"),
        rename("quantize.embedding.weight", "quantizer.weight"),
    ]
)


def transformer_config(arguments: Mapping[str, Any]) -> MeissonicConfig:
    """Return our configuration of the official `Transformer2DModel`'s arguments."""
    return MeissonicConfig(
        heads=arguments["num_attention_heads"],
        head_width=arguments["attention_head_dim"],
        joint=arguments["num_layers"],
        single=arguments["num_single_layers"],
        axes=tuple(arguments["axes_dims_rope"]),
        codebook_size=arguments["codebook_size"],
        spare=arguments["vocab_size"] - arguments["codebook_size"],
        compresses=arguments["downsample"],
        text_width=arguments["joint_attention_dim"],
        heat=heat(arguments.get("temperature", (2.0, 0.0))),
        least_masked=arguments.get("min_masking_rate", 0.0),
    )


def heat(temperature: Sequence[float] | float) -> tuple[float, float]:
    """Return our pair of the official `temperature`, of which one number falls to 0.01."""
    pair = temperature if isinstance(temperature, Sequence) else (temperature, 0.01)
    return float(pair[0]), float(pair[1])


def vq_config(arguments: Mapping[str, Any]) -> MeissonicVQConfig:
    """Return our configuration of the `VQModel`'s arguments."""
    attends = arguments.get("mid_block_add_attention", False)
    check(not attends, "mid_block_add_attention", attends, "off: there is no attention")
    widths = arguments["block_out_channels"]
    return MeissonicVQConfig(
        ConvolutionConfig(
            channels=widths[0],
            multipliers=tuple(_multiple(width, widths[0]) for width in widths),
            blocks=arguments["layers_per_block"],
            encoder_attention=(),
            decoder_attention=(),
            middle_attention=False,
            groups=arguments["norm_num_groups"],
        ),
        latent=arguments["latent_channels"],
        codebook_size=arguments["num_vq_embeddings"],
        codebook_width=arguments["vq_embed_dim"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    rows, width = shapes["embed.embeddings.weight"]
    head_width = shapes["single_transformer_blocks.0.attn.norm_q.weight"][0]
    if "axes" not in given and head_width not in AXES:
        raise ConfigError(f"axes cannot be told from heads {head_width} wide: give axes")
    codes = shapes["mlm_layer.conv2.weight"][0]
    return {
        "heads": width // head_width,
        "head_width": head_width,
        "joint": _count(shapes, "transformer_blocks", "norm1.linear.weight"),
        "single": _count(shapes, "single_transformer_blocks", "norm.linear.weight"),
        "axes": AXES.get(head_width),
        "codebook_size": codes,
        "spare": rows - codes,
        "compresses": "down_block.downsample.conv.weight" in shapes,
        "text_width": shapes["context_embedder.weight"][1],
    }


def _infer_vq(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    channels, pictures = shapes["encoder.conv_in.weight"][:2]
    levels = _count(shapes, "encoder.down_blocks", "resnets.0.conv1.weight")
    widths = [shapes[f"encoder.down_blocks.{k}.resnets.0.conv1.weight"][0] for k in range(levels)]
    codes, width = shapes["quantize.embedding.weight"]
    return {
        "convolution": {
            "channels": channels,
            "multipliers": [_multiple(each, channels) for each in widths],
            "blocks": _count(shapes, "encoder.down_blocks.0.resnets", "conv1.weight"),
            "encoder_attention": [],
            "decoder_attention": [],
            "middle_attention": False,
            "pictures": pictures,
            "groups": math.gcd(32, *widths),
        },
        "latent": shapes["quant_conv.weight"][1],
        "codebook_size": codes,
        "codebook_width": width,
    }


def _multiple(width: int, first: int) -> int | float:
    return width // first if width % first == 0 else width / first


def _count(shapes: Shapes, stack: str, last: str) -> int:
    """Return how many parts of a stack there are."""
    count = 0
    while f"{stack}.{count}.{last}" in shapes:
        count += 1
    return count


CONVERTERS = (
    Converter(
        system="meissonic",
        registry=MODELS,
        family="meissonic",
        marks=("embed.embeddings.weight", "mlm_layer.conv2.weight", "context_embedder.weight"),
        infer=_infer,
        table=lambda config: _TRANSFORMER,
    ),
    Converter(
        system="meissonic-vq",
        registry=TOKENIZERS,
        family="meissonic-vq",
        marks=("encoder.down_blocks.0.resnets.0.conv1.weight", "quantize.embedding.weight"),
        infer=_infer_vq,
        table=lambda config: _VQ,
    ),
)
TRANSFORMER, VQ = CONVERTERS
