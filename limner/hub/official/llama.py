"""Decoders in the layout of the `transformers` library's Llama: names, and the order of channels.

That library turns channel j with channel j + d / 2 of a head; here neighbours turn together, so the
rows of queries and keys are brought into pairs, which changes no score. Facts from
models/llama/modeling_llama.py of huggingface/transformers 4.46.3.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from limner.hub.official.tables import Rule, rename


@dataclass(frozen=True)
class PairedQKV:
    """Queries, keys and values apart, halves of a head turned together; ours are one and paired.

    Args:
        heads: of queries.
        key_heads: of keys and values.
    """

    heads: int
    key_heads: int

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Pair the rows of queries and keys, and join the three."""
        query, key, value = tensors
        return (torch.cat([_paired(query, self.heads), _paired(key, self.key_heads), value]),)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Part the three, and put the halves of queries and keys apart."""
        size = len(tensors[0]) // (self.heads + 2 * self.key_heads)
        counts = (self.heads, self.key_heads, self.key_heads)
        query, key, value = tensors[0].split([count * size for count in counts])
        return _halved(query, self.heads), _halved(key, self.key_heads), value


def _paired(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, 2, -1)).transpose(1, 2).flatten(0, 2)


def _halved(rows: Tensor, heads: int) -> Tensor:
    return rows.unflatten(0, (heads, -1, 2)).transpose(1, 2).flatten(0, 2)


def block_rules(heads: int, key_heads: int) -> list[Rule]:
    """Return the rules of one block without biases, see `limner.layers.decoder_block`."""
    parts = tuple(f"self_attn.{part}_proj.weight" for part in "qkv")
    return [
        rename("input_layernorm.weight", "attention_norm.weight"),
        Rule(parts, ("attention.qkv.weight",), PairedQKV(heads, key_heads)),
        rename("self_attn.o_proj.weight", "attention.out.weight"),
        rename("post_attention_layernorm.weight", "mlp_norm.weight"),
        rename("mlp.gate_proj.weight", "mlp.gate.weight"),
        rename("mlp.up_proj.weight", "mlp.value.weight"),
        rename("mlp.down_proj.weight", "mlp.out.weight"),
    ]
