"""Infinity's official weights: the transformer, and the autoencoder with bits.

Facts from infinity/models/{infinity,basic}.py and infinity/models/bsq_vae/*.py of
StargazerX0/ScaleKV, a copy of FoundationVision/Infinity. The transformer's files hold a bare state
dict (`infinity_2b_reg.pth`), one under "trainer" and "gpt_fsdp" (training files), or shards with an
index (`infinity_8b_weights`); the autoencoder's (`infinity_vae_d32_reg.pth`, ...) one under "vae".
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from torch import Tensor

from limner.core.errors import check
from limner.core.guidance import Guidance, Unguided
from limner.core.layout import Layout, pyramid
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.heads.guidance import Constant, Inside, Listed
from limner.heads.stages import StepTemperature
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import (
    autoencoder_rules,
    convolution_config,
    infer_convolution,
)
from limner.hub.official.tables import KeyTable, Squeeze, nested, rename
from limner.models.infinity import InfinityConfig
from limner.tokenizers.infinity_vae import InfinityVAEConfig
from limner.tokenizers.quantizers.multiscale_bits import MultiScaleBitsConfig

LICENCE = "MIT (https://huggingface.co/FoundationVision/Infinity)"


class LogScale:
    """The scale of a head, once for each: [1, H, 1, 1], or [1, 1, H, 1] of fused kernels."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return [H]."""
        return [tensor.flatten() for tensor in tensors]

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return [1, H, 1, 1]."""
        return [tensor.reshape(1, -1, 1, 1) for tensor in tensors]


_BLOCK = [
    rename("ada_gss", "modulation.offset", Squeeze((0, 1))),
    rename("sa.mat_qkv.weight", "attention.qkv.weight"),
    rename("sa.q_bias", "attention.query_bias"),
    rename("sa.v_bias", "attention.value_bias"),
    rename("sa.scale_mul_1H11", "attention.log_scale", LogScale()),
    rename("sa.proj.{parameter}", "attention.out.{parameter}"),
    rename("ca_norm.{parameter}", "cross_norm.{parameter}"),
    rename("ca.mat_q.{parameter}", "cross.query.{parameter}"),
    rename("ca.mat_kv.weight", "cross.reader.keys_values.weight"),
    rename("ca.v_bias", "cross.reader.value_bias"),
    rename("ca.proj.{parameter}", "cross.out.{parameter}"),
    rename("ffn.fc1.{parameter}", "mlp.into.{parameter}"),
    rename("ffn.fc2.{parameter}", "mlp.out.{parameter}"),
]

_OUTSIDE = [
    rename("cfg_uncond", "condition.unconditional"),
    rename("pos_start", "start", Squeeze((0,))),
    rename("text_norm.weight", "text_norm.weight"),
    rename("text_proj_for_sos.ca.mat_q", "pool.query", Squeeze((0,))),
    rename("text_proj_for_sos.ca.mat_kv.weight", "pool.reader.keys_values.weight"),
    rename("text_proj_for_sos.ca.v_bias", "pool.reader.value_bias"),
    rename("text_proj_for_sos.ca.proj.{parameter}", "pool.out.{parameter}"),
    rename("text_proj_for_ca.{i}.{parameter}", "text.{i}.{parameter}"),
    rename("lvl_embed.weight", "scales.weight"),
    rename("word_embed.{parameter}", "words.{parameter}"),
    rename("shared_ada_lin.1.{parameter}", "shared.linear.{parameter}"),
    rename("head_nm.ada_lin.1.{parameter}", "norm.modulation.linear.{parameter}"),
    rename("head.{parameter}", "output.{parameter}"),
]

TRANSFORMER_TABLE = KeyTable(
    [*_OUTSIDE, *nested("blocks.{i}", "blocks.{i}", _BLOCK)],
    ignored=[
        "lvl_1L",
        "attn_bias_for_masking",
        "text_proj_for_sos.ca.zero_k_bias",
        "blocks.{i}.sa.zero_k_bias",
        "blocks.{i}.ca.zero_k_bias",
    ],
)


def plain_blocks(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors with their blocks numbered through, where official files have chunks."""
    found = [match for name in state if (match := _CHUNKED.match(name))]
    each = 1 + max((int(match["within"]) for match in found), default=0)

    def through(match: re.Match[str]) -> str:
        return f"blocks.{int(match['chunk']) * each + int(match['within'])}."

    return {_CHUNKED.sub(through, name): tensor for name, tensor in state.items()}


def bare_layers(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return an autoencoder's tensors without the wrappers around its layers."""
    return {_WRAPPED.sub(r"\1.", name): tensor for name, tensor in state.items()}


_CHUNKED = re.compile(r"block_chunks\.(?P<chunk>\d+)\.module\.(?P<within>\d+)\.")
_WRAPPED = re.compile(
    r"\b(conv|conv1|conv2|conv_in|conv_out|nin_shortcut|norm1|norm2|norm_out)\.(?:conv|norm)\."
)


def vae_table(config: InfinityVAEConfig) -> KeyTable:
    """Return the key table of an autoencoder of this size, without wrappers."""
    rules = autoencoder_rules(len(config.convolution.multipliers))
    return KeyTable(rules, ignored=["quantizer.lfq.mask", "quantize.lfq.mask"])


def transformer_config(arguments: Mapping[str, Any]) -> InfinityConfig:
    """Return our configuration of the arguments of the official `Infinity`.

    A schedule among them stands for the template of the largest resolution.
    """
    depth, chunks = arguments["depth"], arguments.get("block_chunks", 1)
    every = not arguments.get("add_lvl_embeding_only_first_block", 1)
    patched = arguments.get("apply_spatial_patchify", 0)
    mode = arguments.get("rope2d_normalized_by_hw", 2)
    check(mode == 2, "rope2d_normalized_by_hw", mode, "2, as in all published weights")
    return InfinityConfig(
        width=arguments["embed_dim"],
        depth=depth,
        heads=arguments["num_heads"],
        bits=arguments["codebook_dim"] * (4 if patched else 1),
        text_length=arguments["text_maxlen"],
        text_width=arguments["text_channels"],
        level_blocks=tuple(range(0, depth, depth // chunks)) if every else (0,),
        reference="own" if "scale_schedule" in arguments else "template",
        mlp_ratio=arguments.get("mlp_ratio", 4.0),
        norm_eps=arguments.get("norm_eps", 1e-6),
        condition_dropout=arguments.get("cond_drop_rate", 0.1),
    )


def quantizer_config(arguments: Mapping[str, Any]) -> MultiScaleBitsConfig:
    """Return our configuration of the quantiser that goes with either network."""
    return MultiScaleBitsConfig(
        width=arguments["codebook_dim"],
        patch=2 if arguments.get("apply_spatial_patchify", 0) else 1,
        flipped_scales=arguments.get("noise_apply_layers", 13),
    )


def vae_config(arguments: Mapping[str, Any]) -> InfinityVAEConfig:
    """Return our configuration of the arguments of the official autoencoder.

    Raises:
        ConfigError: a patch size that cannot be.
    """
    named = {"ch": arguments["base_ch"], **arguments}
    patch = arguments["patch_size"]
    halvings = patch.bit_length() - 1
    check(patch == 2**halvings, "patch_size", patch, "a power of two")
    convolution = convolution_config(named, (), ())
    convolution = replace(convolution, middle_attention=False, halvings=halvings)
    return InfinityVAEConfig(convolution, quantizer_config(arguments))


def schedule_layout(arguments: Mapping[str, Any]) -> Layout:
    """Return the pyramid of an official schedule of (frames, rows, columns)."""
    return pyramid(tuple((rows, columns) for _, rows, columns in arguments["scale_schedule"]))


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the arguments of the official `autoregressive_infer_cfg`.

    A list of `tau` divides logits before anything else. A top-k of 1 takes the likelier bit.
    """
    cfg, tau = arguments["cfg"], arguments["tau"]
    guidance: Guidance = Listed(tuple(cfg)) if isinstance(cfg, list) else Constant(cfg)
    layer = arguments.get("insertion_layer", 0)
    if layer:
        guidance = Inside(guidance, layer)
    by_step = (StepTemperature(tuple(tau)),) if isinstance(tau, list) else ()
    greedy = arguments["top_k"] == 1
    return Options(
        guidance=guidance if guidance.active else Unguided(),
        temperature=0.0 if greedy else 1.0 if by_step else tau,
        top_k=0 if greedy else arguments["top_k"],
        top_p=arguments["top_p"] or 1.0,
        processors=by_step,
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    width, bits = shapes["word_embed.weight"]
    text_length, text_width = shapes["cfg_uncond"]
    return {
        "width": width,
        "depth": sum(name.endswith("sa.mat_qkv.weight") for name in shapes),
        "heads": math.prod(shapes["blocks.0.sa.scale_mul_1H11"]),
        "bits": bits,
        "text_length": text_length,
        "text_width": text_width,
        "levels": shapes["lvl_embed.weight"][0],
        "mlp_ratio": shapes["blocks.0.ffn.fc1.weight"][0] / width,
    }


def _infer_vae(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    convolution = infer_convolution(shapes)
    halvings = sum(".downsample." in name and name.endswith("weight") for name in shapes)
    patch = 2 if halvings == 3 else 1  # the one of 8 px a latent is read in squares of four
    return {
        "convolution": {**convolution, "middle_attention": False, "halvings": halvings},
        "quantizer": {"width": shapes["encoder.conv_out.weight"][0], "patch": patch},
    }


CONVERTERS = (
    Converter(
        system="infinity",
        registry=MODELS,
        family="infinity",
        marks=("text_proj_for_sos.ca.mat_q", "cfg_uncond", "word_embed.weight"),
        infer=_infer,
        table=lambda config: TRANSFORMER_TABLE,
        licence=LICENCE,
        plain=plain_blocks,
    ),
    Converter(
        system="infinity-vae",
        registry=TOKENIZERS,
        family="infinity-vae",
        marks=("quantizer.lfq.mask",),
        infer=_infer_vae,
        table=vae_table,
        licence=LICENCE,
        plain=bare_layers,
    ),
)
TRANSFORMER, VAE = CONVERTERS
