"""ARBooth's official weights: a whole Infinity with the vectors of a subject.

Facts from infinity/utils/save_and_load.py and booth_train_final.py of jiwoogit/ARBooth. A file
(`txt_emb-giter...-last.pth`) holds the state dict under "model", beside arguments and counters.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from limner.core.config import to_dict
from limner.core.registry import MODELS
from limner.hub.official import infinity
from limner.hub.official.converter import Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, rename
from limner.models.arbooth import ARBoothConfig

CHUNKS = 8  # of blocks, in all published sizes: scales have a vector before each of them


def _inside(rule: Rule) -> Rule:
    """Return a rule of Infinity's for the one inside of a tuned generator."""
    ours = (name.replace("condition.", "condition.inner.") for name in rule.ours)
    return replace(rule, ours=tuple(f"base.{name}" for name in ours))


TABLE = KeyTable(
    [
        rename("special_token", "base.condition.words"),
        *(_inside(rule) for rule in infinity.TRANSFORMER_TABLE.rules),
    ],
    ignored=[
        "lvl_1L",
        "attn_bias_for_masking",
        "text_proj_for_sos.ca.zero_k_bias",
        "blocks.{i}.sa.zero_k_bias",
        "blocks.{i}.ca.zero_k_bias",
    ],
)


def config(arguments: Mapping[str, Any], rows: int) -> ARBoothConfig:
    """Return our configuration of the arguments of the official `Infinity`.

    Scales have a vector before every chunk of blocks, whatever the arguments say.

    Args:
        rows: of `special_token`.
    """
    base = infinity.transformer_config({**arguments, "add_lvl_embeding_only_first_block": 0})
    return ARBoothConfig("infinity", to_dict(base), rows=rows, width=base.text_width)


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    base = infinity.TRANSFORMER.infer(shapes, given)
    rows, width = shapes["special_token"]
    depth = base["depth"]
    base["level_blocks"] = list(range(0, depth, max(1, depth // CHUNKS)))
    return {"family": "infinity", "base": base, "rows": rows, "width": width}


CONVERTERS = (
    Converter(
        system="arbooth",
        registry=MODELS,
        family="arbooth",
        marks=(*infinity.TRANSFORMER.marks, "special_token"),
        infer=_infer,
        table=lambda config: TABLE,
        plain=infinity.plain_blocks,
    ),
)
(TUNED,) = CONVERTERS
