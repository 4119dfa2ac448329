"""FlexVAR's official weights: the transformer, and its tokenizer in LlamaGen's names.

Facts from models/{__init__,flexvar,vq_llama}.py and inference_c2i.py of jiaosiyu1999/FlexVAR. The
transformer's files (`FlexVARd16-epo179.pth`, ...) hold a state dict bare or under "trainer" and
"var_wo_ddp", the tokenizer's (`FlexVAE.pth`) under "model". Names alone do not tell the tokenizer
from LlamaGen's: it is asked for as `flexvar-vq`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from limner.core.guidance import Unguided
from limner.core.registry import MODELS, TOKENIZERS
from limner.core.row import Options
from limner.heads.guidance import Constant, ScaleRamp
from limner.hub.official import llamagen, var
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Squeeze, rename
from limner.models.flexvar import FlexVARConfig
from limner.tokenizers.flexvar_vq import FlexVARVQConfig

_PLACES = ("pos_1LC", "lvl_embed.weight")

TABLE = KeyTable(
    [
        rename("pos_1LC", "table.weight", Squeeze((0,))),
        *(rule for rule in var.TRANSFORMER_TABLE.rules if rule.official[0] not in _PLACES),
    ],
    var.IGNORED,
)


def config(arguments: Mapping[str, Any]) -> FlexVARConfig:
    """Return our configuration of the arguments of the official `FlexVAR`."""
    return FlexVARConfig(
        **var.network_arguments(arguments),
        latent=arguments["Cvae"],
        table=arguments["pos_grid"][0],
    )


def tokenizer_config(arguments: Mapping[str, Any]) -> FlexVARVQConfig:
    """Return our configuration of the official tokenizer's `ModelArgs`."""
    return FlexVARVQConfig(**vars(llamagen.vq_config(arguments)))


def sampling_options(arguments: Mapping[str, Any]) -> Options:
    """Return our options of the arguments of the official `autoregressive_infer_cfg`.

    A top-k or top-p of 0 is off there.
    """
    strength = float(arguments["cfg"])
    guidance: Any = Constant(strength) if arguments["used_llamagen_cfg"] else Unguided()
    if strength and not arguments["used_llamagen_cfg"]:
        guidance = ScaleRamp(strength, arguments["max_pn"])
    return Options(
        guidance=guidance,
        top_k=arguments.get("top_k", 0),
        top_p=arguments.get("top_p", 0.0) or 1.0,
    )


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    return {**var.infer_network(shapes, given), "table": shapes["pos_1LC"][-1]}


CONVERTERS = (
    Converter(
        system="flexvar",
        registry=MODELS,
        family="flexvar",
        marks=("pos_1LC", "blocks.0.attn.mat_qkv.weight"),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
    ),
    Converter(
        system="flexvar-vq",
        registry=TOKENIZERS,
        family="flexvar-vq",
        marks=("encoder.conv_blocks.0.res.0.conv1.weight",),
        infer=llamagen.VQ.infer,
        table=llamagen.VQ.table,
        licence=UNKNOWN_LICENCE,
    ),
)
TRANSFORMER, TOKENIZER = CONVERTERS
