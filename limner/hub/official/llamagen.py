"""LlamaGen's official weights: the GPT (class or text) and the VQ tokenizer.

Facts from autoregressive/models/gpt.py and tokenizer/tokenizer_image/vq_model.py of
FoundationVision/LlamaGen. The files (`c2i_L_256.pt`, `t2i_XL_stage1_256.pt`, `vq_ds16_c2i.pt`, ...)
hold the state dict bare or under "model", "module" or "state_dict".
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from limner.core.errors import CheckpointError, ConfigError, check
from limner.core.guidance import Unguided
from limner.core.layout import Layout, grid
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.heads.guidance import Interval
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import ATTENTION, RESIDUAL, same
from limner.hub.official.tables import KeyTable, Rule, nested, rename
from limner.layers.convolution import ConvolutionConfig
from limner.models.llamagen import LlamaGenConfig
from limner.tokenizers.llamagen_vq import LlamaGenVQConfig

LICENCE = "MIT (https://huggingface.co/FoundationVision/LlamaGen)"

HEADS = {768: 12, 1024: 16, 1280: 20, 1536: 24, 2048: 32, 2560: 40, 3200: 32, 4096: 32}
"""Heads of the published sizes, by width: the weights alone do not tell them."""

GPT_TRUNK = (
    rename("cls_embedding.embedding_table.weight", "condition.table.weight"),
    rename("cls_embedding.cap_proj.fc1.weight", "condition.into.weight"),
    rename("cls_embedding.cap_proj.fc2.weight", "condition.out.weight"),
    rename("cls_embedding.uncond_embedding", "condition.unconditional"),
    rename("tok_embeddings.weight", "tokens.weight"),
    *nested(
        "layers.{i}",
        "blocks.{i}",
        [
            rename("attention_norm.weight", "attention_norm.weight"),
            rename("attention.wqkv.weight", "attention.qkv.weight"),
            rename("attention.wo.weight", "attention.out.weight"),
            rename("ffn_norm.weight", "mlp_norm.weight"),
            rename("feed_forward.w1.weight", "mlp.gate.weight"),
            rename("feed_forward.w3.weight", "mlp.value.weight"),
            rename("feed_forward.w2.weight", "mlp.out.weight"),
        ],
    ),
)
"""Rules of the GPT, its last norm and output left out."""

GPT_IGNORED = (
    "freqs_cis",
    "causal_mask",
    "layers.{i}.attention.kv_cache.k_cache",
    "layers.{i}.attention.kv_cache.v_cache",
)

_GPT = KeyTable(
    [
        *GPT_TRUNK,
        rename("norm.weight", "norm.weight"),
        rename("output.weight", "output.weight"),
    ],
    ignored=GPT_IGNORED,
)


def _half(resample: str) -> list[Rule]:
    """Return the rules of the encoder or the decoder."""
    return [
        *same("conv_in", "norm_out", "conv_out"),
        *nested("conv_blocks.{l}.res.{b}", "levels.{l}.blocks.{b}", RESIDUAL),
        *nested("conv_blocks.{l}.attn.{b}", "levels.{l}.attention.{b}", ATTENTION),
        rename(
            f"conv_blocks.{{l}}.{resample}.conv.{{parameter}}",
            "levels.{l}.resample.conv.{parameter}",
        ),
        *nested("mid.0", "middle.0", RESIDUAL),
        *nested("mid.1", "middle.1", ATTENTION),
        *nested("mid.2", "middle.2", RESIDUAL),
    ]


_VQ = KeyTable(
    [
        *nested("encoder", "encoder", _half("downsample")),
        *nested("decoder", "decoder", _half("upsample")),
        *same("quant_conv", "post_quant_conv"),
        rename("quantize.embedding.weight", "quantizer.weight"),
    ],
    ignored=["quantize.codebook_used"],
)


def gpt_config(arguments: Mapping[str, Any]) -> LlamaGenConfig:
    """Return our configuration of the official `ModelArgs`, of which T and N are not part."""
    text = arguments.get("model_type", "c2i") == "t2i"
    key_heads = arguments.get("n_kv_head") or arguments["n_head"]
    check(key_heads == arguments["n_head"], "n_kv_head", key_heads, "the same as n_head")
    return LlamaGenConfig(
        width=arguments["dim"],
        depth=arguments["n_layer"],
        heads=arguments["n_head"],
        codebook_size=arguments["vocab_size"],
        condition="text" if text else "class",
        classes=arguments.get("num_classes", 1000),
        text_length=arguments["cls_token_num"] if text else 120,
        text_width=arguments.get("caption_dim", 2048),
        rotary_base=arguments.get("rope_base", 10000),
        norm_eps=arguments.get("norm_eps", 1e-5),
        multiple_of=arguments.get("multiple_of", 256),
        condition_dropout=arguments.get("class_dropout_prob", 0.1),
    )


def vq_config(arguments: Mapping[str, Any]) -> LlamaGenVQConfig:
    """Return our configuration of the official `ModelArgs` of the tokenizer."""
    return LlamaGenVQConfig(
        convolution=ConvolutionConfig(
            channels=arguments.get("ch", 128),
            multipliers=tuple(arguments["ch_mult"]),
            blocks=arguments.get("num_res_blocks", 2),
        ),
        latent=arguments["z_channels"],
        codebook_size=arguments["codebook_size"],
        codebook_width=arguments["codebook_embed_dim"],
        normalize=arguments["codebook_l2_norm"],
        commitment=arguments.get("commit_loss_beta", 0.25),
    )


def gpt_layout(arguments: Mapping[str, Any]) -> Layout:
    """Return the square grid of the official `ModelArgs`' `block_size` tokens."""
    side = math.isqrt(arguments["block_size"])
    return grid(side, side)


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `generate`'s arguments.

    Guidance is off at a scale of 1 or less. `cfg_interval` k > -1 guides the prefill and the
    decode steps 0 .. k, which draw the tokens 0 .. k + 1.
    """
    scale, interval = arguments.get("guidance_scale", 1.0), arguments.get("cfg_interval", -1)
    guidance = Interval(scale, last=interval + 1 if interval > -1 else -1)
    greedy = str(arguments.get("decoding", "")).startswith("greedy")
    return Options(
        guidance=guidance if scale > 1 else Unguided(),
        temperature=0.0 if greedy else arguments.get("temperature", 1.0),
        top_k=arguments.get("top_k", 0),
        top_p=arguments.get("top_p", 1.0),
    )


def infer_gpt(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the weights tell of the GPT's configuration."""
    codebook_size, width = shapes["tok_embeddings.weight"]
    if "heads" not in given and width not in HEADS:
        raise ConfigError(
            f"heads cannot be told from weights of width {width}: give heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    values: dict[str, Any] = {
        "width": width,
        "depth": _count(shapes, "layers.{}.attention.wqkv.weight"),
        "heads": HEADS.get(width),
        "codebook_size": codebook_size,
        "multiple_of": _multiple_of(width, shapes["layers.0.feed_forward.w1.weight"][0]),
    }
    table = shapes.get("cls_embedding.embedding_table.weight")
    if table is not None:
        return {**values, "condition": "class", "classes": table[0] - 1}
    length, features = shapes["cls_embedding.uncond_embedding"]
    return {**values, "condition": "text", "text_length": length, "text_width": features}


def _infer_vq(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    channels = shapes["encoder.conv_in.weight"][0]
    levels = _count(shapes, "encoder.conv_blocks.{}.res.0.conv1.weight")
    widths = [shapes[f"encoder.conv_blocks.{k}.res.0.conv1.weight"][0] for k in range(levels)]
    codebook_size, codebook_width = shapes["quantize.embedding.weight"]
    return {
        "convolution": {
            "channels": channels,
            "multipliers": [width // channels for width in widths],
            "blocks": _count(shapes, "encoder.conv_blocks.0.res.{}.conv1.weight"),
            "pictures": shapes["encoder.conv_in.weight"][1],
        },
        "latent": shapes["quant_conv.weight"][1],
        "codebook_size": codebook_size,
        "codebook_width": codebook_width,
    }


def _count(shapes: Shapes, name: str) -> int:
    """Return how many tensors are numbered 0, 1, 2, ... under this name."""
    count = 0
    while name.format(count) in shapes:
        count += 1
    return count


def _multiple_of(width: int, hidden: int) -> int:
    """Return what the hidden width of the MLP was rounded up to a multiple of."""
    for multiple in (256, 128, 64, 32, 16, 8, 4, 2, 1):
        if LlamaGenConfig(width=width, heads=1, multiple_of=multiple).hidden == hidden:
            return multiple
    raise CheckpointError(f"an MLP of hidden width {hidden} is no LlamaGen of width {width}")


CONVERTERS = (
    Converter(
        system="llamagen",
        registry=MODELS,
        family="llamagen",
        marks=("tok_embeddings.weight", "layers.0.attention.wqkv.weight", "output.weight"),
        infer=infer_gpt,
        table=lambda config: _GPT,
        licence=LICENCE,
    ),
    Converter(
        system="llamagen-vq",
        registry=TOKENIZERS,
        family="llamagen-vq",
        marks=("encoder.conv_blocks.0.res.0.conv1.weight", "quantize.embedding.weight"),
        infer=_infer_vq,
        table=lambda config: _VQ,
        licence=LICENCE,
    ),
)
GPT, VQ = CONVERTERS
