"""VQGAN's official weights.

Facts from taming/models/vqgan.py of CompVis/taming-transformers. The files (`last.ckpt`, ...) hold
the state dict under "state_dict", beside the weights of the losses.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.core.registry import TOKENIZERS
from limner.hub.build import fill
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.convolution import (
    attended_levels,
    autoencoder_rules,
    convolution_config,
    infer_convolution,
    same,
)
from limner.hub.official.tables import KeyTable, Squeeze, rename
from limner.tokenizers.quantizers.build import VQConfig
from limner.tokenizers.quantizers.gumbel import GumbelConfig, GumbelQuantizer
from limner.tokenizers.vqgan import VQGANConfig

LICENCE = "MIT (https://github.com/CompVis/taming-transformers)"


def table(config: VQGANConfig) -> KeyTable:
    """Return the key table of a VQGAN of this size."""
    return KeyTable(
        [
            *autoencoder_rules(len(config.convolution.multipliers)),
            *same("quant_conv", "post_quant_conv"),
            rename("quantize.embedding.weight", "quantizer.weight"),
        ],
        ignored=["loss.{rest}", "colorize"],
    )


def vqgan_config(arguments: Mapping[str, Any], legacy: bool = True) -> VQGANConfig:
    """Return our configuration of the official `VQModel`'s arguments.

    Args:
        legacy: beta scales the loss of the codes, as in all published training, rather than that
            of the latents.
    """
    sizes, beta = arguments["ddconfig"], arguments.get("beta", 0.25)
    levels = attended_levels(sizes["resolution"], sizes["attn_resolutions"], len(sizes["ch_mult"]))
    return VQGANConfig(
        convolution_config(sizes, levels, levels),
        latent=sizes["z_channels"],
        quantizer=VQConfig(
            codebook_size=arguments["n_embed"],
            width=arguments["embed_dim"],
            commitment=1.0 if legacy else beta,
            pull=beta if legacy else 1.0,
        ),
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    codebook_size, width = shapes["quantize.embedding.weight"]
    return {
        "convolution": infer_convolution(shapes),
        "latent": shapes["quant_conv.weight"][1],
        "quantizer": {
            "kind": "vq",
            "codebook_size": codebook_size,
            "width": width,
            "commitment": 1.0,
            "pull": 0.25,
        },
    }


CONVERTERS = (
    Converter(
        system="vqgan",
        registry=TOKENIZERS,
        family="vqgan",
        marks=(
            "encoder.down.0.block.0.conv1.weight",
            "encoder.mid.attn_1.q.weight",
            "quantize.embedding.weight",
            "quant_conv.weight",
        ),
        infer=_infer,
        table=table,
        licence=LICENCE,
    ),
)
(VQGAN,) = CONVERTERS


_GUMBEL = KeyTable(
    [
        rename("proj.weight", "logits.weight", Squeeze((2, 3))),
        rename("proj.bias", "logits.bias"),
        rename("embed.weight", "weight"),
    ]
)


def gumbel_quantizer(arguments: Mapping[str, Any], state: Mapping[str, Tensor]) -> GumbelQuantizer:
    """Return the official `GumbelQuantize`."""
    module = GumbelQuantizer(
        GumbelConfig(
            inputs=arguments["num_hiddens"],
            codebook_size=arguments["n_embed"],
            width=arguments["embedding_dim"],
            divergence=arguments["kl_weight"],
        )
    )
    fill(module, _GUMBEL.to_ours(state), "the quantiser")
    return module.eval()
