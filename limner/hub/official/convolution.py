"""The encoder and decoder that taming-transformers, latent diffusion, MAR and VAR share.

Facts from taming/modules/diffusionmodules/model.py of CompVis/taming-transformers, models/vae.py of
LTH14/mar and models/basic_vae.py of FoundationVision/VAR.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from limner.hub.official.converter import Shapes
from limner.hub.official.tables import Rule, nested, rename, split
from limner.layers.convolution import ConvolutionConfig


def same(*names: str) -> list[Rule]:
    """Return the rules of layers that are called the same on both sides."""
    return [rename(f"{name}.{{parameter}}", f"{name}.{{parameter}}") for name in names]


RESIDUAL = [
    *same("norm1", "conv1", "norm2", "conv2"),
    rename("nin_shortcut.{parameter}", "shortcut.{parameter}"),
]
ATTENTION = [
    *same("norm"),
    rename("q.{parameter}", "query.{parameter}"),
    rename("k.{parameter}", "key.{parameter}"),
    rename("v.{parameter}", "value.{parameter}"),
    rename("proj_out.{parameter}", "projection.{parameter}"),
]
_FUSED_ATTENTION = [
    *same("norm"),
    split("qkv.{parameter}", ("query.{parameter}", "key.{parameter}", "value.{parameter}")),
    rename("proj_out.{parameter}", "projection.{parameter}"),
]


def autoencoder_rules(levels: int, fused: bool = False) -> list[Rule]:
    """Return the rules of an encoder and a decoder.

    Args:
        levels: how many; the official decoder counts them from the finest, ours from the first.
        fused: queries, keys and values are one convolution.
    """
    attention = _FUSED_ATTENTION if fused else ATTENTION
    ends = same("conv_in", "norm_out", "conv_out")
    middle = [
        *nested("mid.block_1", "middle.0", RESIDUAL),
        *nested("mid.attn_1", "middle.1", attention),
        *nested("mid.block_2", "middle.2", RESIDUAL),
    ]
    encoder, decoder = [*ends, *middle], [*ends, *middle]
    for level in range(levels):
        down, up, turned = f"down.{level}", f"up.{level}", f"levels.{levels - 1 - level}"
        encoder += _level(down, f"levels.{level}", attention, "downsample")
        decoder += _level(up, turned, attention, "upsample")
    return [*nested("encoder", "encoder", encoder), *nested("decoder", "decoder", decoder)]


def _level(official: str, ours: str, attention: list[Rule], resample: str) -> list[Rule]:
    return [
        *nested(f"{official}.block.{{b}}", f"{ours}.blocks.{{b}}", RESIDUAL),
        *nested(f"{official}.attn.{{b}}", f"{ours}.attention.{{b}}", attention),
        rename(f"{official}.{resample}.conv.{{parameter}}", f"{ours}.resample.conv.{{parameter}}"),
    ]


def attended_levels(resolution: int, attended: Sequence[int], levels: int) -> tuple[int, ...]:
    """Return the levels whose nominal resolution is among the attended ones; 0 is the finest."""
    return tuple(level for level in range(levels) if resolution >> level in attended)


def convolution_config(
    arguments: Mapping[str, Any], encoder: Sequence[int], decoder: Sequence[int]
) -> ConvolutionConfig:
    """Return our configuration of the official `Encoder`'s arguments.

    Args:
        encoder: levels with attention.
        decoder: the same of the decoder.
    """
    return ConvolutionConfig(
        channels=arguments["ch"],
        multipliers=tuple(arguments["ch_mult"]),
        blocks=arguments["num_res_blocks"],
        encoder_attention=tuple(encoder),
        decoder_attention=tuple(decoder),
        pictures=arguments.get("in_channels", 3),
    )


def infer_convolution(shapes: Shapes) -> dict[str, Any]:
    """Return the fields of our configuration that official tensors tell: all of them."""
    channels, pictures = shapes["encoder.conv_in.weight"][:2]
    levels = 0
    while f"encoder.down.{levels}.block.0.conv1.weight" in shapes:
        levels += 1
    widths = [shapes[f"encoder.down.{k}.block.0.conv1.weight"][0] for k in range(levels)]
    first = [name for name in shapes if name.startswith("encoder.down.0.block.")]
    return {
        "channels": channels,
        "multipliers": [width // channels for width in widths],
        "blocks": sum(name.endswith("conv1.weight") for name in first),
        "encoder_attention": _attended(shapes, "encoder.down", levels),
        "decoder_attention": _attended(shapes, "decoder.up", levels),
        "pictures": pictures,
    }


def _attended(shapes: Shapes, half: str, levels: int) -> list[int]:
    return [level for level in range(levels) if f"{half}.{level}.attn.0.norm.weight" in shapes]
