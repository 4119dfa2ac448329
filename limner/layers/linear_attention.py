"""Linear attention with a decaying state, in chunks: as exact as step by step, and parallel.

A state S, one matrix a head, takes in a key and a value at every slot and is asked by a query:

    S_t = exp(decay_t) S_(t-1) + key_t value_t^T        out_t = query_t^T S_t

Inside a chunk all pairs are computed at once; only chunks follow each other. With decay 0 this is
linear attention, with a fixed decay retention, with keys, queries and steps of a state-space
model Mamba-2 (Dao and Gu, "Transformers are SSMs", arXiv:2405.21060, section 6); facts from
fla/ops/simple_gla/naive.py of fla-org/flash-linear-attention and mamba_ssm/modules/ssd_minimal.py
of state-spaces/mamba.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn import functional

CHUNK = 64


def decaying_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    decay: Tensor,
    state: Tensor | None = None,
    chunk: int = CHUNK,
) -> tuple[Tensor, Tensor]:
    """Return what every slot reads, and the state after the last.

    Computed in float32, or in float64 where the values are.

    Args:
        query: float [R, L, G, K]; each of the G groups serves H / G successive heads.
        key: float [R, L, G, K].
        value: float [R, L, H, V].
        decay: float [R, L, H], logarithms, at most 0.
        state: float [R, H, K, V], what the slots before left; None: zeros.
        chunk: slots that are computed at once; sets speed alone.

    Returns:
        float [R, L, H, V] in the values' dtype, and float [R, H, K, V].
    """
    rows, length, heads, width = value.shape
    groups, keys = key.shape[2:]
    dtype = torch.promote_types(value.dtype, torch.float32)
    if state is None:
        state = value.new_zeros(rows, heads, keys, width, dtype=dtype)
    chunk = min(chunk, length)
    # a head's values lie beside those of the other heads of its group: one product with the keys
    state = state.to(dtype).unflatten(1, (groups, -1)).transpose(2, 3)  # [R, G, K, P, V]
    with torch.autocast(value.device.type, enabled=False):
        query, key = (_chunks(x.to(dtype), chunk) for x in (query, key))  # [R, n, G, c, K]
        values = _chunks(value.to(dtype).unflatten(2, (groups, -1)), chunk)  # [R, n, G, c, P, V]
        past = _chunks(decay.to(dtype).unflatten(2, (groups, -1)), chunk).cumsum(
            -2
        )  # [R, n, G, c, P]
        out = _within(query, key, values, past)
        # what every chunk adds to the state, and what of the state before outlasts it
        left = (past[..., -1:, :] - past).exp().unsqueeze(-1) * values
        added = _product(key.transpose(-1, -2), left)
        outlasts = past[..., -1, :].exp()[:, :, :, None, :, None]
        befores = []
        for index in range(added.shape[1]):
            befores.append(state)
            state = outlasts[:, index] * state + added[:, index]
        out = out + past.exp().unsqueeze(-1) * _product(query, torch.stack(befores, dim=1))
    out = out.transpose(2, 3).flatten(1, 2)[:, :length].flatten(2, 3)
    return out.to(value.dtype), state.transpose(2, 3).flatten(1, 2)


def _chunks(x: Tensor, chunk: int) -> Tensor:
    """Cut [R, L, G, ...] into [R, n, G, chunk, ...]; slots added at the end change nothing."""
    short = math.ceil(x.shape[1] / chunk) * chunk - x.shape[1]
    padded = functional.pad(x, (0, 0) * (x.dim() - 2) + (0, short)) if short else x
    return padded.unflatten(1, (-1, chunk)).transpose(2, 3)


def _within(query: Tensor, key: Tensor, values: Tensor, past: Tensor) -> Tensor:
    """Return what slots read of their own chunk, [R, n, G, c, P, V]."""
    past = past.transpose(-1, -2)
    causal = torch.ones(past.shape[-1], past.shape[-1], dtype=torch.bool, device=past.device).tril()
    # differences first: the sums alone would overflow
    since = (past.unsqueeze(-1) - past.unsqueeze(-2)).masked_fill(~causal, -torch.inf)
    weights = since.exp() * (query @ key.transpose(-1, -2)).unsqueeze(-3)  # [R, n, G, P, c, c]
    return (weights @ values.transpose(-2, -3)).transpose(-2, -3)


def _product(x: Tensor, values: Tensor) -> Tensor:
    """Multiply [..., a, b] with [..., b, P, V]."""
    return (x @ values.flatten(-2)).unflatten(-1, values.shape[-2:])
