"""NBP's official weights: the GPT that tells whole blocks.

Facts from nbp/lm_transformer.py and nbp/modules/gpt.py of RenShuhuai-Andy/NBP. The Lightning files
hold the state dict under "state_dict"; a tokenizer and masks in it are passed over. Their
vocabulary is one table: `prompt_vocabulary` is 32000 (Llama 2) unless it is given.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from torch import Tensor

from limner.core.errors import ConfigError
from limner.core.registry import MODELS
from limner.hub.official.converter import UNKNOWN_LICENCE, Converter, Shapes
from limner.hub.official.tables import KeyTable, Rule, join, rename
from limner.layers.vision_transformer import StackConfig
from limner.models.nbp import NBPConfig

HEADS = {1536: 16, 2048: 32, 3072: 32}
"""Heads of the published sizes, by width: the weights alone do not tell them."""

BLOCK, PROMPT_VOCABULARY = 16, 32000
"""Of all published models."""


def _each(official: str, ours: str) -> Rule:
    return rename(f"{official}.{{parameter}}", f"{ours}.{{parameter}}")


def _fused(kind: str) -> Rule:
    parts = tuple(f"blocks.{{i}}.attn.{part}.{kind}" for part in ("query", "key", "value"))
    return join(parts, f"blocks.{{i}}.attention.qkv.{kind}")


TABLE = KeyTable(
    [
        rename("tok_emb.weight", "tokens.weight"),
        rename("pos_emb", "places"),
        rename("uncond_embedding", "null_prompt"),
        _each("blocks.{i}.ln1", "blocks.{i}.attention_norm"),
        _fused("weight"),
        _fused("bias"),
        _each("blocks.{i}.attn.proj", "blocks.{i}.attention.out"),
        _each("blocks.{i}.ln2", "blocks.{i}.mlp_norm"),
        _each("blocks.{i}.mlp.0", "blocks.{i}.mlp.into"),
        _each("blocks.{i}.mlp.2", "blocks.{i}.mlp.out"),
        _each("ln_f", "norm"),
        rename("head.weight", "output.weight"),
    ]
)


def nbp_config(arguments: Mapping[str, Any]) -> NBPConfig:
    """Return our configuration of the official arguments."""
    return NBPConfig(
        StackConfig(arguments["n_embd"], arguments["n_layer"], arguments["n_head"]),
        codebook_size=arguments["video_vocab"],
        block=arguments["token_number_per_step"],
        hybrid=arguments["hybrid"],
        prompt=arguments["cond_token_num"],
        prompt_vocabulary=arguments["cond_vocab"],
        places=arguments["block_size"],
        restricted=False,
    )


def _plain(state: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
    """Leave masks, the tokenizer and the prefix out."""
    return {
        name.removeprefix("transformer."): tensor
        for name, tensor in state.items()
        if name.startswith("transformer.") and "mask" not in name
    }


def _infer(shapes: Shapes, given: Mapping[str, Any]) -> dict[str, Any]:
    vocabulary, width = shapes["tok_emb.weight"]
    heads = given.get("stack.heads", HEADS.get(width))
    if heads is None:
        raise ConfigError(
            f"heads cannot be told from weights of width {width}: give stack.heads "
            f"(known by width: {', '.join(map(str, HEADS))})"
        )
    prompt = shapes["uncond_embedding"][0]
    prompts = given.get("prompt_vocabulary", PROMPT_VOCABULARY) if prompt else 0
    block = given.get("block", BLOCK)
    return {
        "stack": {
            "width": width,
            "depth": sum(name.endswith(".attn.query.weight") for name in shapes),
            "heads": heads,
            "ratio": shapes["blocks.0.mlp.0.weight"][0] / width,
        },
        "codebook_size": vocabulary - (block + prompts if prompt else 0),
        "block": block,
        "hybrid": prompt > 0,
        "prompt": prompt,
        "prompt_vocabulary": prompts,
        "places": shapes["pos_emb"][1],
    }


CONVERTERS = (
    Converter(
        system="nbp",
        registry=MODELS,
        family="nbp",
        marks=(
            "transformer.tok_emb.weight",
            "transformer.uncond_embedding",
            "transformer.blocks.0.attn.query.weight",
        ),
        infer=_infer,
        table=lambda config: TABLE,
        licence=UNKNOWN_LICENCE,
        plain=_plain,
    ),
)
(NBP,) = CONVERTERS
