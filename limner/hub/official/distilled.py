"""Distilled Decoding's official weights: students of VAR and of LlamaGen.

Facts from VAR/models/dd.py and LlamaGen/autoregressive/models/dd.py of microsoft/
distilled_decoding. The files hold the averaged weights under "ema_parameters" in "trainer"
(`var-d16.pth`, ...) or under "ema" (`llamagen-B.pt`, ...).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.registry import MODELS
from limner.hub.official import llamagen, var
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, rename
from limner.models.distilled_llamagen import DistilledLlamaGenConfig
from limner.models.distilled_var import DistilledVARConfig
from limner.models.var import SCALES_256

LICENCE = "MIT (https://github.com/microsoft/distilled_decoding)"

_ADDED: list[Rule] = [
    rename("n_d_embed.weight", "kinds.weight"),
    rename("final_layer_conti.scale_shift_table", "vectors.table"),
    rename("final_layer_conti.linear.{parameter}", "vectors.linear.{parameter}"),
]
VAR_TABLE = KeyTable(
    [
        *var.TRANSFORMER_TABLE.rules,
        *_ADDED,
        rename("layerwise_n_d_embed.{i}.{parameter}", "told.{i}.{parameter}"),
    ],
    var.IGNORED,
)
LLAMAGEN_TABLE = KeyTable(
    [
        *llamagen.GPT_TRUNK,
        rename("norm.weight", "norm.weight"),
        rename("output.weight", "output.weight"),
        rename("tok_embeddings.bias", "tokens.bias"),
        *_ADDED,
    ],
    llamagen.GPT_IGNORED,
)
SPLITS = {16: 5, 20: 4, 24: 4}
"""Scales before which tokens become codes, by depth: the weights do not tell them."""

TOKEN_SPLITS = {768: 80, 1024: 130}
"""The same in tokens, of LlamaGen's students, by width."""


def var_config(arguments: Mapping[str, Any]) -> DistilledVARConfig:
    """Return our configuration of the official arguments of a student of VAR."""
    return DistilledVARConfig(
        **vars(var.transformer_config(arguments)),
        split=arguments["loss_split_t"],
        jumps=tuple(arguments["t_list"]),
        layerwise=arguments["layerwise_n_d_embed"],
    )


def llamagen_config(arguments: Mapping[str, Any]) -> DistilledLlamaGenConfig:
    """Return our configuration of the official arguments of a student of LlamaGen."""
    return DistilledLlamaGenConfig(
        **vars(llamagen.gpt_config(arguments)),
        latent=arguments["codebook_dim"],
        split=arguments["split_t"],
        jumps=tuple(arguments["t_list"]),
        tokens=arguments["block_size"],
    )


def _infer_var(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    scales = given.get("scales", SCALES_256)
    fields = var.infer_network(shapes, given)
    split = given.get("split", SPLITS.get(fields["depth"], len(scales) // 2))
    layerwise = "layerwise_n_d_embed.0.weight" in shapes
    jumps = (0, split) if split else (0,)
    own = {"scales": scales, "split": split, "jumps": jumps, "layerwise": layerwise}
    return {**fields, **own}


def _infer_llamagen(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    width, latent = shapes["tok_embeddings.weight"]
    # the teacher's table has a row for each code, as the output has
    teacher = {**shapes, "tok_embeddings.weight": shapes["output.weight"]}
    fields = llamagen.infer_gpt(teacher, given)
    return {**fields, "latent": latent, "split": given.get("split", TOKEN_SPLITS.get(width, 80))}


CONVERTERS = (
    Converter(
        system="distilled-var",
        registry=MODELS,
        family="distilled-var",
        marks=("pos_1LC", "lvl_embed.weight", "blocks.0.attn.mat_qkv.weight", "n_d_embed.weight"),
        infer=_infer_var,
        table=lambda config: VAR_TABLE,
        licence=LICENCE,
    ),
    Converter(
        system="distilled-llamagen",
        registry=MODELS,
        family="distilled-llamagen",
        marks=(
            *("tok_embeddings.weight", "layers.0.attention.wqkv.weight", "output.weight"),
            "n_d_embed.weight",
        ),
        infer=_infer_llamagen,
        table=lambda config: LLAMAGEN_TABLE,
        licence=LICENCE,
    ),
)
DISTILLED_VAR, DISTILLED_LLAMAGEN = CONVERTERS
