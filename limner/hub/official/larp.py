"""LARP's official weights, the tokenizer of NAR's clips.

Facts from NAR-videos/models/larp_tokenizer.py of ThisisBillhe/NAR. The files hold the state dict
under "model", "sd", or bare; the prior that they may hold too is of no use for coding.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from limner.core.errors import ConfigError, check
from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, nested, rename
from limner.layers.vision_transformer import StackConfig
from limner.tokenizers.larp import LARPConfig

HEAD_WIDTH = 64
"""Of the published attention: the weights do not tell it."""


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
TABLE = KeyTable(
    [
        _each("x_embedder.proj", "embed"),
        rename("encoder_latent_query_embed", "queries"),
        *nested("encoder.blocks.{i}", "encoder.blocks.{i}", _BLOCK),
        _each("bottleneck.in_linear", "into"),
        rename("bottleneck.regularizer.embedding.weight", "quantizer.weight"),
        _each("bottleneck.out_linear", "out"),
        rename("decoder_patch_query_token_type_embed", "query_type"),
        *nested("decoder.blocks.{i}", "decoder.blocks.{i}", _BLOCK),
        _each("final_layer.norm_final", "norm"),
        _each("final_layer.linear", "pixels"),
    ],
    # places are computed
    ignored=[
        "encoder_patch_pe",
        "decoder_latent_pe",
        "decoder_patch_query_embed",
        "prior_model.{rest}",
    ],
)


def larp_config(arguments: Mapping[str, Any]) -> LARPConfig:
    """Return our configuration of the official `LARPTokenizer` arguments.

    The codes stand in a line, as nothing is said of a volume.

    Raises:
        ConfigError: a variation that no published model has.
    """
    for name in ("temporal_patch_size", "patch_size"):
        same = arguments.get(f"decoder_{name}", arguments[name]) == arguments[name]
        check(same, f"decoder_{name}", arguments.get(f"decoder_{name}"), f"the same as {name}")
    bottleneck = arguments["bottleneck"]["args"]
    codes = bottleneck["regularizer"]["args"]
    encoder, decoder = (
        StackConfig(
            arguments[f"{part}_hidden_size"],
            arguments[f"{part}_depth"],
            arguments[f"{part}_num_heads"],
        )
        for part in ("encoder", "decoder")
    )
    return LARPConfig(
        size=arguments["input_size"],
        frames=arguments["frame_num"],
        patch=arguments["patch_size"],
        patch_frames=arguments["temporal_patch_size"],
        encoder=encoder,
        decoder=decoder,
        volume=(1, 1, arguments["bottleneck_token_num"]),
        codebook_size=codes["codebook_size"],
        codebook_width=bottleneck["bottleneck_dim"],
        normalize=codes.get("l2_normalized", False),
        commitment=codes.get("commitment_loss_weight", 0.25),
        query_type=arguments.get("use_decoder_patch_query_token_type_embed", False),
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    patch_frames, patch = shapes["x_embedder.proj.weight"][2:4]
    patches, codes = shapes["encoder_patch_pe"][1], shapes["encoder_latent_query_embed"][0]
    # a clip is cut into as many patches in time as published, of a square
    frames = given.get("frames", 16)
    side = math.isqrt(patches * patch_frames // frames)
    volume = given.get("volume") or ((4, 16, 16) if codes == 1024 else None)
    if volume is None:
        raise ConfigError(f"volume cannot be told from {codes} codes: give volume")
    codebook_size, codebook_width = shapes["bottleneck.regularizer.embedding.weight"]
    return {
        "size": side * patch,
        "frames": frames,
        "patch": patch,
        "patch_frames": patch_frames,
        "encoder": _stack(shapes, "encoder", shapes["encoder_latent_query_embed"][1]),
        "decoder": _stack(shapes, "decoder", shapes["bottleneck.out_linear.weight"][0]),
        "volume": volume,
        "codebook_size": codebook_size,
        "codebook_width": codebook_width,
        "query_type": "decoder_patch_query_token_type_embed" in shapes,
    }


def _stack(shapes: Shapes, part: str, width: int) -> dict[str, Any]:
    blocks = [
        name for name in shapes if name.startswith(f"{part}.") and name.endswith("attn.qkv.weight")
    ]
    return {"width": width, "depth": len(blocks), "heads": max(1, width // HEAD_WIDTH)}


CONVERTERS = (
    Converter(
        system="larp",
        registry=TOKENIZERS,
        family="larp",
        marks=("x_embedder.proj.weight", "encoder_latent_query_embed", "bottleneck.in_linear.bias"),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
)
(LARP,) = CONVERTERS
