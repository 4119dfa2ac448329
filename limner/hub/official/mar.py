"""MAR's official weights: the masked encoder-decoder with its denoiser.

Facts from models/mar.py and models/diffloss.py of LTH14/mar. The files (`checkpoint-last.pth`) hold
the state dict under "model" and its moving average, which is the one to use, under "model_ema".
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.diffusion import DiffusionConfig
from limner.heads.guidance import schedule
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, nested, rename
from limner.layers.vision_transformer import StackConfig
from limner.models.mar import MARConfig

LICENCE = "MIT (https://github.com/LTH14/mar)"

HEADS = {768: 12, 1024: 16, 1280: 16}
"""Heads of the published sizes, by width: the weights alone do not tell them."""


class NullLast:
    """The official null vector stands apart from the classes' table; ours is its last row."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the null vector behind the table."""
        return (torch.cat(list(tensors)),)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Part them."""
        return tensors[0][:-1], tensors[0][-1:]


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


_BLOCK = [
    _each("norm1", "attention_norm"),
    _each("attn.qkv", "attention.qkv"),
    _each("attn.proj", "attention.out"),
    _each("norm2", "mlp_norm"),
    _each("mlp.fc1", "mlp.into"),
    _each("mlp.fc2", "mlp.out"),
]
_DENOISER = [
    _each("time_embed.mlp.0", "time.into"),
    _each("time_embed.mlp.2", "time.out"),
    _each("cond_embed", "condition"),
    _each("input_proj", "into"),
    _each("res_blocks.{k}.in_ln", "blocks.{k}.norm"),
    _each("res_blocks.{k}.mlp.0", "blocks.{k}.mlp.into"),
    _each("res_blocks.{k}.mlp.2", "blocks.{k}.mlp.out"),
    _each("res_blocks.{k}.adaLN_modulation.1", "blocks.{k}.modulation.linear"),
    _each("final_layer.adaLN_modulation.1", "modulation.linear"),
    _each("final_layer.linear", "out"),
]
HEAD = KeyTable(nested("net", "denoiser", _DENOISER))
"""The diffusion head alone, as `DiffLoss` holds it."""

_TABLE = KeyTable(
    [
        Rule(("class_emb.weight", "fake_latent"), ("condition.table.weight",), NullLast()),
        _each("z_proj", "into"),
        rename("encoder_pos_embed_learned", "encoder_places"),
        _each("z_proj_ln", "into_norm"),
        *nested("encoder_blocks.{i}", "encoder.{i}", _BLOCK),
        _each("encoder_norm", "encoder_norm"),
        _each("decoder_embed", "between"),
        rename("mask_token", "mask_token"),
        rename("decoder_pos_embed_learned", "decoder_places"),
        *nested("decoder_blocks.{i}", "decoder.{i}", _BLOCK),
        _each("decoder_norm", "decoder_norm"),
        rename("diffusion_pos_embed_learned", "output_places"),
        *nested("diffloss.net", "head.denoiser", _DENOISER),
    ]
)


def mar_config(arguments: Mapping[str, Any]) -> MARConfig:
    """Return our configuration of the official `MAR` arguments."""
    side = arguments["img_size"] // arguments["vae_stride"] // arguments["patch_size"]
    encoder, decoder = (
        StackConfig(
            arguments[f"{part}_embed_dim"],
            arguments[f"{part}_depth"],
            arguments[f"{part}_num_heads"],
            arguments["mlp_ratio"],
        )
        for part in ("encoder", "decoder")
    )
    return MARConfig(
        encoder,
        decoder,
        DiffusionConfig(
            width=arguments["diffloss_w"],
            depth=arguments["diffloss_d"],
            steps=arguments["num_sampling_steps"],
            repeats=arguments["diffusion_batch_mul"],
        ),
        tokens=side**2,
        token_width=arguments["vae_embed_dim"] * arguments["patch_size"] ** 2,
        classes=arguments["class_num"],
        buffer=arguments["buffer_size"],
        attention_dropout=arguments["attn_dropout"],
        dropout=arguments["proj_dropout"],
        condition_dropout=arguments["label_drop_prob"],
    )


def head_config(arguments: Mapping[str, Any]) -> DiffusionConfig:
    """Return our configuration of the official `DiffLoss` arguments."""
    return DiffusionConfig(
        width=arguments["width"],
        depth=arguments["depth"],
        steps=arguments["num_sampling_steps"],
        chain=arguments.get("diffusion_steps", 1000),
    )


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `sample_tokens` arguments."""
    schedules = {"linear": "drawn", "constant": "constant"}
    return Options(
        schedule(schedules[arguments["cfg_schedule"]], arguments["cfg"]),
        temperature=arguments["temperature"],
        steps=arguments["num_iter"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    tokens = shapes["diffusion_pos_embed_learned"][1]
    head_width, token_width = shapes["diffloss.net.input_proj.weight"]
    return {
        "encoder": _stack(shapes, given, "encoder"),
        "decoder": _stack(shapes, given, "decoder"),
        "head": {"width": head_width, "depth": _count(shapes, "diffloss.net.res_blocks", "in_ln")},
        "tokens": tokens,
        "token_width": token_width,
        "classes": shapes["class_emb.weight"][0],
        "buffer": shapes["encoder_pos_embed_learned"][1] - tokens,
    }


def _stack(shapes: Shapes, given: Mapping[str, Any], part: str) -> dict[str, Any]:
    width = shapes[f"{part}_norm.weight"][0]
    heads = given.get(f"{part}.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(
            f"{part}.heads cannot be told from weights of width {width}: give {part}.heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    hidden = shapes[f"{part}_blocks.0.mlp.fc1.weight"][0]
    depth = _count(shapes, f"{part}_blocks", "norm1")
    return {"width": width, "depth": depth, "heads": heads, "ratio": hidden / width}


def _count(shapes: Shapes, stack: str, part: str) -> int:
    """Return how many blocks of a stack there are."""
    return sum(name.startswith(f"{stack}.") and name.endswith(f".{part}.weight") for name in shapes)


CONVERTERS = (
    Converter(
        system="mar",
        registry=MODELS,
        family="mar",
        marks=("fake_latent", "diffusion_pos_embed_learned", "diffloss.net.input_proj.weight"),
        infer=_infer,
        table=lambda config: _TABLE,
        licence=LICENCE,
    ),
)
(MAR,) = CONVERTERS
