"""M-VAR's official weights. Its tokenizer is VAR's (`var-vqvae`).

Facts from models/{__init__,mvar,basic_mvar}.py of OliverRensu/MVAR. The files (`d16.pth`, ...,
`d32.pth`) hold bare state dicts with the names of VAR's and those of a Mamba-2 layer in every
block.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.registry import MODELS
from limner.hub.official import var
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.mamba import MAMBA2_RULES, infer_mamba2
from limner.hub.official.tables import KeyTable, nested
from limner.models.m_var import MVARConfig

HEAD_WIDTH = 64
"""Of the published attention, which weights without cosine attention do not tell."""

TABLE = KeyTable(
    [
        *var.TRANSFORMER_TABLE.rules,
        *nested("blocks.{i}.mamba", "blocks.{i}.mixer", MAMBA2_RULES),
    ],
    ignored=[*var.IGNORED, "blocks.{i}.attn.patch_nums"],
)


def config(arguments: Mapping[str, Any]) -> MVARConfig:
    """Return our configuration of the arguments of the official `MVAR`, and of its `Mamba2`."""
    return MVARConfig(
        **vars(var.transformer_config(arguments)),
        mixer_state=arguments.get("mamba_d_state", 64),
        mixer_expand=arguments.get("mamba_expand", 2),
        mixer_head_width=arguments.get("mamba_headdim", 64),
        mixer_groups=arguments.get("mamba_ngroups", 1),
        mixer_kernel=arguments.get("mamba_d_conv", 4),
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    heads, left = divmod(shapes["head.weight"][1], HEAD_WIDTH)
    assumed = {} if left else {"heads": heads}
    mixer = infer_mamba2(shapes, "blocks.0.mamba.", given.get("mixer_groups", 1))
    return {
        **var.infer(shapes, {**assumed, **given}),
        **{f"mixer_{name}": value for name, value in mixer.items()},
    }


CONVERTERS = (
    Converter(
        system="m-var",
        registry=MODELS,
        family="m-var",
        marks=(
            "pos_1LC",
            "lvl_embed.weight",
            "blocks.0.attn.mat_qkv.weight",
            "blocks.0.mamba.in_proj.weight",
        ),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
)
(MVAR_WEIGHTS,) = CONVERTERS
