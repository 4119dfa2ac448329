"""xAR's official weights: the transformer over noisy cells, which is its own velocity network.

Facts from models/xar.py of OliverRensu/xAR. The files (`xAR-B.pth`, ...) hold bare state dicts;
training checkpoints hold the moving average, which is the one to use, under "model_ema". Its
autoencoder is MAR's (`mar-vae`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from limner.core.errors import check
from limner.core.guidance import Unguided
from limner.core.layout import Layout, grid
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.heads.flow import FlowConfig
from limner.heads.guidance import schedule
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, nested, rename
from limner.layers.vision_transformer import StackConfig
from limner.models.xar import XARConfig
from limner.orders.blocks import NextX

STEPS = {768: 40, 1024: 50, 1280: 50}
"""Published solver steps, by width: the weights do not tell them."""


@dataclass(frozen=True, eq=False)
class InRaster:
    """Official places stand cell by cell under a batch dimension; ours are in raster order.

    Args:
        sequence: int64 [N], the raster place of each official one.
    """

    sequence: Tensor

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the places into raster order."""
        return (tensors[0][0, self.sequence.argsort()],)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the places cell by cell."""
        return (tensors[0][self.sequence].unsqueeze(0),)


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


_BLOCK = [
    _each("attn.qkv", "attention.qkv"),
    _each("attn.proj", "attention.out"),
    _each("mlp.fc1_g", "mlp.gate"),
    _each("mlp.fc1_x", "mlp.value"),
    _each("mlp.fc2", "mlp.out"),
    _each("ada_lin.1", "modulation.linear"),
]


def table(config: XARConfig) -> KeyTable:
    """Return the key table; places are those of the configuration's X."""
    in_raster = InRaster(sequence(config))
    return KeyTable(
        [
            rename("class_emb.weight", "condition.table.weight"),
            _each("time_embed.mlp.0", "time.into"),
            _each("time_embed.mlp.2", "time.out"),
            _each("z_proj", "into"),
            rename("encoder_pos_embed_learned", "encoder_places", in_raster),
            rename("z_proj_ln.weight", "into_norm.weight"),
            *nested("encoder_blocks.{i}", "encoder.{i}", _BLOCK),
            rename("encoder_norm.weight", "encoder_norm.weight"),
            _each("decoder_embed", "between"),
            rename("decoder_pos_embed_learned", "decoder_places", in_raster),
            *nested("decoder_blocks.{i}", "decoder.{i}", _BLOCK),
            rename("decoder_norm.weight", "decoder_norm.weight"),
            _each("pred", "output"),
        ],
        ignored=[
            "mask",
            "encoder_blocks.{i}.attn.rope.{rest}",
            "decoder_blocks.{i}.attn.rope.{rest}",
        ],
    )


def layout(config: XARConfig) -> Layout:
    """Return the square grid of the official latents.

    Raises:
        ConfigError: the number of tokens is no square.
    """
    side = math.isqrt(config.tokens)
    check(side**2 == config.tokens, "tokens", config.tokens, "the square of a whole number")
    return grid(side, side, kind="values")


def sequence(config: XARConfig) -> Tensor:
    """Return the raster place of each place of the official sequence, int64 [N]."""
    return config.x.order(layout(config)).step.argsort(stable=True)


def xar_config(arguments: Mapping[str, Any]) -> XARConfig:
    """Return our configuration of the official `xAR` arguments.

    The released code counts on 16 x 16 latents of width 16 in 2 x 2 cells, and on 1000 classes,
    whatever its arguments say.
    """
    side = arguments["img_size"] // arguments["vae_stride"] // arguments["patch_size"]
    across = math.isqrt(arguments.get("cells", arguments.get("clusters", 4)))
    check(side % across == 0, "cells", f"{across}x{across}", f"a divisor of {side}x{side}")
    encoder, decoder = (
        StackConfig(
            arguments[f"{part}_embed_dim"],
            arguments[f"{part}_depth"],
            arguments[f"{part}_num_heads"],
            arguments["mlp_ratio"],
        )
        for part in ("encoder", "decoder")
    )
    return XARConfig(
        encoder,
        decoder,
        NextX("cell", side // across),
        tokens=side**2,
        token_width=arguments.get("vae_embed_dim", 16) * arguments["patch_size"] ** 2,
        classes=arguments.get("class_num", 1000),
        attention_dropout=arguments["attn_dropout"],
        dropout=arguments["proj_dropout"],
        condition_dropout=arguments["label_drop_prob"],
    )


def flow_config(arguments: Mapping[str, Any]) -> FlowConfig:
    """Return our configuration of the official sampler's arguments."""
    if arguments.get("sampler", "Euler-Maruyama") == "Euler":
        return FlowConfig(arguments["num_steps"])
    return FlowConfig(arguments["num_steps"], solver="euler-maruyama", times="late")


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official `sample_tokens` arguments; a `cfg` up to 1 is off."""
    scale = arguments.get("cfg", 1.0)
    return Options(schedule("ramp", scale) if scale > 1 else Unguided())


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    tokens, width = shapes["encoder_pos_embed_learned"][1:]
    flow = {"steps": STEPS.get(width, 50), "solver": "euler-maruyama", "times": "late"}
    return {
        "encoder": _stack(shapes, "encoder"),
        "decoder": _stack(shapes, "decoder"),
        "x": {"kind": "cell", "size": given.get("x.size") or math.isqrt(tokens) // 2},
        "flow": flow,
        "tokens": tokens,
        "token_width": shapes["z_proj.weight"][1],
        "classes": shapes["class_emb.weight"][0] - 1,
    }


def _stack(shapes: Shapes, part: str) -> dict[str, Any]:
    width = shapes[f"{part}_norm.weight"][0]
    head = shapes[f"{part}_blocks.0.attn.rope.freqs_cos"][1]
    hidden = shapes[f"{part}_blocks.0.mlp.fc1_g.weight"][0]
    # the hidden width is two thirds of ratio times width, rounded down
    ratio = math.ceil(hidden * 3 / 2 / width * 100) / 100
    depth = sum(
        name.startswith(f"{part}_blocks.") and name.endswith(".attn.qkv.weight") for name in shapes
    )
    return {"width": width, "depth": depth, "heads": width // head, "ratio": ratio}


CONVERTERS = (
    Converter(
        system="xar",
        registry=MODELS,
        family="xar",
        marks=("z_proj_ln.weight", "encoder_pos_embed_learned", "time_embed.mlp.0.weight"),
        infer=_infer,
        table=table,
        licence=UNKNOWN_LICENCE,
    ),
)
(XAR,) = CONVERTERS
