"""The official weights of MaskGIT's tokenizer, as TiTok and others use them.

Facts from modeling/modules/maskgit_vqgan.py of bytedance/1d-tokenizer. The file
(`maskgit-vqgan-imagenet-f16-256.bin`) holds a bare state dict.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import RESIDUAL, infer_convolution, same
from limner.hub.official.tables import KeyTable, nested, rename
from limner.layers.convolution import ConvolutionConfig
from limner.tokenizers.maskgit_vq import MaskGITVQConfig

LICENCE = "Apache-2.0 (https://github.com/bytedance/1d-tokenizer)"


def table(config: MaskGITVQConfig) -> KeyTable:
    """Return the key table of a tokenizer of this size."""
    ends = same("conv_in", "norm_out", "conv_out")
    middle = nested("mid.{b}", "middle.{b}", RESIDUAL)
    encoder, decoder = [*ends, *middle], [*ends, *middle]
    levels = len(config.convolution.multipliers)
    for level in range(levels):
        turned = f"levels.{levels - 1 - level}"
        encoder += nested(f"down.{level}.block.{{b}}", f"levels.{level}.blocks.{{b}}", RESIDUAL)
        decoder += nested(f"up.{level}.block.{{b}}", f"{turned}.blocks.{{b}}", RESIDUAL)
        decoder += [
            rename(
                f"up.{level}.upsample_conv.{{parameter}}", f"{turned}.resample.conv.{{parameter}}"
            )
        ]
    return KeyTable(
        [
            *nested("encoder", "encoder", encoder),
            *nested("decoder", "decoder", decoder),
            rename("quantize.embedding.weight", "quantizer.weight"),
        ]
    )


def vq_config(arguments: Mapping[str, Any]) -> MaskGITVQConfig:
    """Return our configuration of the official arguments."""
    sizes = arguments["config"]
    return MaskGITVQConfig(
        ConvolutionConfig(
            channels=sizes["hidden_channels"],
            multipliers=tuple(sizes["channel_mult"]),
            blocks=sizes["num_res_blocks"],
            encoder_attention=(),
            decoder_attention=(),
            pictures=sizes.get("num_channels", 3),
        ),
        codebook_size=arguments["num_embeddings"],
        width=arguments["embedding_dim"],
        pull=arguments["commitment_cost"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    codebook_size, width = shapes["quantize.embedding.weight"]
    return {
        "convolution": infer_convolution(shapes),
        "codebook_size": codebook_size,
        "width": width,
    }


CONVERTERS = (
    Converter(
        system="maskgit-vq",
        registry=TOKENIZERS,
        family="maskgit-vq",
        marks=(
            "encoder.down.0.block.0.conv1.weight",
            "encoder.mid.0.conv1.weight",
            "quantize.embedding.weight",
        ),
        infer=_infer,
        table=table,
        licence=LICENCE,
    ),
)
(VQ,) = CONVERTERS
