"""VAR's official weights: the transformer, the tokenizer, and the quantiser inside it.

Facts from models/{var,basic_var,vqvae,basic_vae,quant}.py of FoundationVision/VAR. The files
(`var_d16.pth`, ..., `vae_ch160v4096z32.pth`) hold bare state dicts.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.guidance import Unguided
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.heads.guidance import StepRamp
from limner.hub.build import fill
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import (
    autoencoder_rules,
    convolution_config,
    infer_convolution,
    same,
)
from limner.hub.official.tables import KeyTable, Rule, Squeeze, nested, rename
from limner.models.var import SCALES_256, SCALES_512, VARConfig
from limner.tokenizers.quantizers.multiscale import MultiScaleConfig, MultiScaleQuantizer
from limner.tokenizers.var_vqvae import VARVQVAEConfig

LICENCE = "MIT (https://huggingface.co/FoundationVision/var)"


_BLOCK = [
    rename("attn.mat_qkv.weight", "attention.qkv.weight"),
    rename("attn.q_bias", "attention.query_bias"),
    rename("attn.v_bias", "attention.value_bias"),
    rename("attn.scale_mul_1H11", "attention.log_scale", Squeeze((0, 2, 3))),
    rename("attn.proj.{parameter}", "attention.out.{parameter}"),
    rename("ffn.fc1.{parameter}", "mlp.into.{parameter}"),
    rename("ffn.fc2.{parameter}", "mlp.out.{parameter}"),
    rename("ada_lin.1.{parameter}", "modulation.linear.{parameter}"),
    rename("ada_gss", "modulation.offset", Squeeze((0, 1))),
]

IGNORED = ("lvl_1L", "attn_bias_for_masking", "blocks.{i}.attn.zero_k_bias")
"""Buffers that are computed anew."""

TRANSFORMER_TABLE = KeyTable(
    [
        rename("pos_start", "start", Squeeze((0,))),
        rename("pos_1LC", "places.weight", Squeeze((0,))),
        rename("lvl_embed.weight", "scales.weight"),
        rename("class_emb.weight", "condition.table.weight"),
        rename("word_embed.{parameter}", "words.{parameter}"),
        rename("shared_ada_lin.1.{parameter}", "shared.linear.{parameter}"),
        *nested("blocks.{i}", "blocks.{i}", _BLOCK),
        rename("head_nm.ada_lin.1.{parameter}", "norm.modulation.linear.{parameter}"),
        rename("head.{parameter}", "output.{parameter}"),
    ],
    IGNORED,
)


def _quantizer_rules(shared: int) -> list[Rule]:
    """Return the rules of the quantiser.

    Args:
        shared: convolutions that the scales share (published: 4); 0: each has its own.
    """
    phi = {
        0: rename("quant_resi.{i}.{parameter}", "phi.{i}.{parameter}"),
        1: rename("quant_resi.qresi.{parameter}", "phi.0.{parameter}"),
    }
    several = rename("quant_resi.qresi_ls.{i}.{parameter}", "phi.{i}.{parameter}")
    return [rename("embedding.weight", "codebook.weight"), phi.get(shared, several)]


def tokenizer_table(config: VARVQVAEConfig) -> KeyTable:
    """Return the key table of a tokenizer of this size."""
    return KeyTable(
        [
            *autoencoder_rules(len(config.convolution.multipliers), fused=True),
            *same("quant_conv", "post_quant_conv"),
            *nested("quantize", "quantizer", _quantizer_rules(config.quantizer.phi_count)),
        ],
        ignored=["quantize.ema_vocab_hit_SV"],
    )


def transformer_config(arguments: Mapping[str, Any]) -> VARConfig:
    """Return our configuration of the arguments of the official `VAR`."""
    return VARConfig(
        **network_arguments(arguments),
        latent=arguments["z_channels"],
        scales=tuple(arguments["patch_nums"]),
    )


def network_arguments(arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of our configuration that say nothing of the tokenizer."""
    return {
        "width": arguments["embed_dim"],
        "depth": arguments["depth"],
        "heads": arguments["num_heads"],
        "codebook_size": arguments["vocab_size"],
        "classes": arguments["num_classes"],
        "mlp_ratio": arguments.get("mlp_ratio", 4.0),
        "shared_adaln": arguments.get("shared_aln", False),
        "cosine": arguments.get("attn_l2_norm", True),
        "norm_eps": arguments.get("norm_eps", 1e-6),
        "condition_dropout": arguments.get("cond_drop_rate", 0.1),
    }


def tokenizer_config(arguments: Mapping[str, Any]) -> VARVQVAEConfig:
    """Return our configuration of the arguments of the official `VQVAE`.

    Its levels with attention are fixed: the coarsest.
    """
    return VARVQVAEConfig(
        convolution_config(arguments, (-1,), (-1,)),
        quantizer_config(arguments),
        tuple(arguments["patch_nums"]),
    )


def quantizer_config(arguments: Mapping[str, Any]) -> MultiScaleConfig:
    """Return our configuration of the quantiser of the official `VQVAE`."""
    return MultiScaleConfig(
        codebook_size=arguments["vocab_size"],
        width=arguments["z_channels"],
        phi_count=arguments["share_quant_resi"],
        phi_ratio=abs(arguments["quant_resi"]),
        normalize=arguments.get("using_znorm", False),
        commitment=arguments.get("beta", 0.25),
    )


def quantizer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> MultiScaleQuantizer:
    """Return the quantiser of the official `VQVAE`, from its part of the state dict."""
    config = quantizer_config(arguments)
    module = MultiScaleQuantizer(config, len(arguments["patch_nums"]))
    table = KeyTable(_quantizer_rules(config.phi_count), ignored=["ema_vocab_hit_SV"])
    fill(module, table.to_ours(state), "the quantiser")
    return module.eval()


def part(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with a prefix, without it."""
    return {
        name.removeprefix(prefix): tensor
        for name, tensor in state.items()
        if name.startswith(prefix)
    }


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the arguments of the official `autoregressive_infer_cfg`.

    A top-k or top-p of 0 is off there.
    """
    strength = float(arguments.get("cfg", 0.0))
    return Options(
        guidance=StepRamp(strength) if strength else Unguided(),
        top_k=arguments.get("top_k", 0),
        top_p=arguments.get("top_p", 0.0) or 1.0,
    )


_SCALES = {
    (len(sides), sum(side**2 for side in sides)): sides for sides in (SCALES_256, SCALES_512)
}


def infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields of the configuration of a transformer with weights of these shapes."""
    scales = _SCALES.get((shapes["lvl_embed.weight"][0], shapes["pos_1LC"][1]))
    if scales is None and "scales" not in given:
        raise ConfigError("scales cannot be told from these weights: give scales")
    return {**infer_network(shapes, given), "scales": scales or given["scales"]}


def infer_network(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    """Return the fields that weights with or without embeddings of fixed scales tell."""
    codebook_size, width = shapes["head.weight"]
    scale = shapes.get("blocks.0.attn.scale_mul_1H11")
    if scale is None and "heads" not in given:
        raise ConfigError("heads cannot be told from weights without cosine attention: give heads")
    return {
        "width": width,
        "depth": sum(name.endswith("attn.mat_qkv.weight") for name in shapes),
        "heads": scale[1] if scale else given["heads"],
        "codebook_size": codebook_size,
        "latent": shapes["word_embed.weight"][1],
        "classes": shapes["class_emb.weight"][0] - 1,
        "mlp_ratio": shapes["blocks.0.ffn.fc1.weight"][0] / width,
        "shared_adaln": "shared_ada_lin.1.weight" in shapes,
        "cosine": scale is not None,
    }


def _infer_tokenizer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    codebook_size, width = shapes["quantize.embedding.weight"]
    phi = [name for name in shapes if re.fullmatch(r"quantize\.quant_resi\..*weight", name)]
    own = "quantize.quant_resi.0.weight" in shapes
    if own and len(phi) != len(SCALES_256) and "scales" not in given:
        raise ConfigError(f"the {len(phi)} scales cannot be told from these weights: give scales")
    return {
        "convolution": infer_convolution(shapes),
        "quantizer": {
            "codebook_size": codebook_size,
            "width": width,
            "phi_count": 0 if own else len(phi),
            "phi_ratio": 0.5 if phi else 0.0,
        },
    }


CONVERTERS = (
    Converter(
        system="var",
        registry=MODELS,
        family="var",
        marks=("pos_1LC", "lvl_embed.weight", "blocks.0.attn.mat_qkv.weight"),
        infer=infer,
        table=lambda config: TRANSFORMER_TABLE,
        licence=LICENCE,
    ),
    Converter(
        system="var-vqvae",
        registry=TOKENIZERS,
        family="var-vqvae",
        marks=("encoder.mid.attn_1.qkv.weight", "quantize.embedding.weight"),
        infer=_infer_tokenizer,
        table=tokenizer_table,
        licence=LICENCE,
    ),
)
TRANSFORMER, TOKENIZER = CONVERTERS
