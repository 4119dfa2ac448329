"""The selective scan of Mamba: a diagonal state-space model whose steps depend on the token.

Every channel has N numbers of state, each with a rate of its own:

    state_t = exp(step_t rate) state_(t-1) + step_t keys_t u_t        out_t = queries_t . state_t

Source: Gu and Dao, "Mamba", arXiv:2312.00752; `selective_scan_ref` in
mamba_ssm/ops/selective_scan_interface.py of state-spaces/mamba.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from limner.layers.fused_scans import fused_selective_scan, selective_scan_kernel

CHUNK = 32
"""Slots that are computed at once on a GPU; on CPUs, where work counts, one by one is faster."""


def step_sizes(raw: Tensor, bias: Tensor) -> Tensor:
    """Return softplus(raw + bias), in float32 at least: float [..., D] of the same and [D]."""
    dtype = torch.promote_types(raw.dtype, torch.float32)
    return functional.softplus(raw.to(dtype) + bias.to(dtype))


def frozen(steps: Tensor, counts: Tensor | None) -> Tensor:
    """Return steps [R, L, D] that are 0, and so leave a state as it is, from `counts` [R] on."""
    if counts is None:
        return steps
    enters = torch.arange(steps.shape[1], device=steps.device) < counts.unsqueeze(1)
    return steps * enters.unsqueeze(-1)


def selective_scan(
    u: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    skip: Tensor | None = None,
    gate: Tensor | None = None,
    state: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what every slot reads, and the state after the last.

    Computed in float32, or in float64 where the inputs are.

    Args:
        u: float [R, L, D].
        steps: float [R, L, D], 0 or more.
        rates: float [D, N], below 0.
        keys: float [R, L, G, N]; each of the G groups serves D / G successive channels.
        queries: float [R, L, G, N].
        skip: float [D], weight of `u` in its output; None: 0.
        gate: float [R, L, D], the outputs are multiplied by silu of it; None: they are not.
        state: float [R, D, N], what the slots before left; None: zeros.
        chunk: slots that are computed at once, which sets speed and memory alone; None: 1
            on CPUs, `CHUNK` elsewhere.

    Returns:
        float [R, L, D] in the dtype of `u`, and float [R, D, N].
    """
    dtype = torch.promote_types(u.dtype, torch.float32)
    wide, steps, rates, keys, queries = (x.to(dtype) for x in (u, steps, rates, keys, queries))
    kernel = selective_scan_kernel(wide) if state is None else None
    if kernel is not None:
        out, state = fused_selective_scan(kernel, wide, steps, rates, keys, queries)
    else:
        if state is None:
            state = wide.new_zeros(len(u), *rates.shape)
        chunk = chunk or (1 if u.device.type == "cpu" else CHUNK)
        out, state = _scan(wide, steps, rates, keys, queries, state.to(dtype), chunk)
    if skip is not None:
        out = out + skip.to(dtype) * wide
    if gate is not None:
        out = out * functional.silu(gate.to(dtype))
    return out.to(u.dtype), state


def _scan(
    u: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    state: Tensor,
    chunk: int,
) -> tuple[Tensor, Tensor]:
    """Scan chunk by chunk; see `selective_scan`."""
    per_group = len(rates) // keys.shape[2]
    outs = []
    for parts in zip(*(x.split(chunk, dim=1) for x in (u, steps, keys, queries)), strict=True):
        u, steps, keys, queries = parts
        keys, queries = (x.repeat_interleave(per_group, dim=2) for x in (keys, queries))
        kept = (steps.unsqueeze(-1) * rates).exp()  # [R, c, D, N]
        states = _doubled((steps * u).unsqueeze(-1) * keys, kept, state)
        outs.append((states * queries).sum(-1))
        state = states[:, -1]
    return torch.cat(outs, dim=1), state


def _doubled(sums: Tensor, kept: Tensor, state: Tensor) -> Tensor:
    """Return all states of a chunk; after k rounds, each slot holds the sum of its last 2^k.

    Args:
        sums: float [R, c, D, N], what every slot adds.
        kept: float [R, c, D, N], what it keeps of the state before.
        state: float [R, D, N], before the chunk.
    """
    reach = 1
    while reach < sums.shape[1]:
        added = sums[:, reach:] + kept[:, reach:] * sums[:, :-reach]
        sums = torch.cat([sums[:, :reach], added], dim=1)
        kept = torch.cat([kept[:, :reach], kept[:, reach:] * kept[:, :-reach]], dim=1)
        reach *= 2
    return sums + kept * state.unsqueeze(1)
