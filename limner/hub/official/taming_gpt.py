"""The official weights of VQGAN's GPT.

Facts from taming/modules/transformer/mingpt.py and taming/models/cond_transformer.py of
CompVis/taming-transformers. The files hold them under "state_dict" and the prefix "transformer.",
beside the VQGANs they were trained with.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.core.row import Options
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, Squeeze, join, nested, rename
from limner.models.taming_gpt import TamingGPTConfig

LICENCE = "MIT (https://github.com/CompVis/taming-transformers)"

CURVES = {
    "AlternateParsing": "boustrophedon",
    "ZCurve": "z-curve",
    "Subsample": "subsample",
    "SpiralOut": "spiral-out",
    "SpiralIn": "spiral-in",
    "Random": "random",
    "Identity": "raster",
}
"""Official permuter -> our curve."""

_BLOCK = [
    rename("ln1.{parameter}", "attention_norm.{parameter}"),
    join(
        ("attn.query.{parameter}", "attn.key.{parameter}", "attn.value.{parameter}"),
        "attention.qkv.{parameter}",
    ),
    rename("attn.proj.{parameter}", "attention.out.{parameter}"),
    rename("ln2.{parameter}", "mlp_norm.{parameter}"),
    rename("mlp.0.{parameter}", "mlp.into.{parameter}"),
    rename("mlp.2.{parameter}", "mlp.out.{parameter}"),
]
_RULES = [
    rename("tok_emb.weight", "tokens.weight"),
    rename("pos_emb", "places", Squeeze((0,))),
    *nested("blocks.{i}", "blocks.{i}", _BLOCK),
    rename("ln_f.{parameter}", "norm.{parameter}"),
    rename("head.weight", "output.weight"),
]
_ALONE = KeyTable(_RULES, ignored=["blocks.{i}.attn.mask"])
_IN_FILE = KeyTable(
    [
        Rule(tuple(f"transformer.{name}" for name in rule.official), rule.ours, rule.change)
        for rule in _RULES
    ],
    ignored=[
        "transformer.blocks.{i}.attn.mask",
        "first_stage_model.{rest}",
        "cond_stage_model.{rest}",
        "permuter.{rest}",
    ],
)


def gpt_config(arguments: Mapping[str, Any]) -> TamingGPTConfig:
    """Return our configuration of the official `GPT`'s arguments."""
    return TamingGPTConfig(
        width=arguments["n_embd"],
        depth=arguments["n_layer"],
        heads=arguments["n_head"],
        codebook_size=arguments["vocab_size"],
        places=arguments["block_size"],
        prefix=arguments.get("cond_len", 1),
        open_prefix=arguments.get("n_unmasked", 0),
        keep=arguments.get("pkeep", 1.0),
    )


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the official sampling functions' arguments."""
    greedy = str(arguments.get("decoding", "")).startswith("greedy")
    return Options(
        temperature=0.0 if greedy else arguments.get("temperature", 1.0),
        top_k=arguments.get("top_k") or 0,
        top_p=arguments.get("top_p") or 1.0,
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    if "heads" not in given:
        raise ConfigError("heads cannot be told from these weights: give heads (mostly 16)")
    shapes = {name.removeprefix("transformer."): shape for name, shape in shapes.items()}
    codebook_size, width = shapes["tok_emb.weight"]
    return {
        "width": width,
        "depth": sum(name.endswith("attn.query.weight") for name in shapes),
        "codebook_size": codebook_size,
        "places": shapes["pos_emb"][1],
    }


CONVERTERS = (
    Converter(
        system="taming-gpt",
        registry=MODELS,
        family="taming-gpt",
        marks=("transformer.tok_emb.weight", "transformer.blocks.0.attn.query.weight"),
        infer=_infer,
        table=lambda config: _IN_FILE,
        licence=LICENCE,
    ),
    Converter(
        system="taming-gpt-alone",
        registry=MODELS,
        family="taming-gpt",
        marks=("tok_emb.weight", "pos_emb", "blocks.0.attn.query.weight"),
        infer=_infer,
        table=lambda config: _ALONE,
        licence=LICENCE,
    ),
)
IN_FILE, GPT = CONVERTERS
