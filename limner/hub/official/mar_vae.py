"""The official weights of MAR's KL autoencoder, whose layout is that of latent diffusion.

Facts from models/vae.py of LTH14/mar. The file (`kl16.ckpt`) holds the state dict under "model".
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.registry import TOKENIZERS
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import (
    attended_levels,
    autoencoder_rules,
    convolution_config,
    infer_convolution,
    same,
)
from limner.hub.official.tables import KeyTable
from limner.tokenizers.kl_autoencoder import KLAutoencoderConfig

LICENCE = "MIT (https://github.com/LTH14/mar)"


def table(config: KLAutoencoderConfig) -> KeyTable:
    """Return the key table of an autoencoder of this size."""
    levels = len(config.convolution.multipliers)
    rules = [*autoencoder_rules(levels), *same("quant_conv", "post_quant_conv")]
    return KeyTable(rules, ignored=["loss.{rest}"])


def kl_config(arguments: Mapping[str, Any]) -> KLAutoencoderConfig:
    """Return our configuration of the official `AutoencoderKL`'s arguments.

    Latent diffusion names one list of attended resolutions; MAR's decoder has none.
    """
    levels, resolution = len(arguments["ch_mult"]), arguments["resolution"]
    both = arguments.get("attn_resolutions", ())
    encoder = arguments.get("attn_resolutions_encoder", both)
    decoder = arguments.get("attn_resolutions_decoder", both)
    return KLAutoencoderConfig(
        convolution_config(
            arguments,
            attended_levels(resolution, encoder, levels),
            attended_levels(resolution, decoder, levels),
        ),
        latent=arguments["embed_dim"],
        scale=arguments["latent_scale"],
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "convolution": infer_convolution(shapes),
        "latent": shapes["post_quant_conv.weight"][1],
    }


CONVERTERS = (
    Converter(
        system="mar-vae",
        registry=TOKENIZERS,
        family="kl-autoencoder",
        marks=(
            "encoder.down.0.block.0.conv1.weight",
            "encoder.mid.attn_1.q.weight",
            "quant_conv.weight",
        ),
        infer=_infer,
        table=table,
        licence=LICENCE,
    ),
)
(VAE,) = CONVERTERS
