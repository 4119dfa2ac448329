"""Kernels of the package mamba-ssm for scans on a GPU, where it is installed; never needed.

Source: mamba_ssm/ops/{selective_scan_interface.py,triton/ssd_combined.py} of state-spaces/mamba.
"""

from __future__ import annotations

import importlib
from functools import cache
from typing import Any

import torch
from torch import Tensor

CHUNK = 256


@cache
def _kernel(module: str, name: str) -> Any:
    """Return a function of mamba-ssm, or None; a broken installation counts as none."""
    try:
        return getattr(importlib.import_module(f"mamba_ssm.ops.{module}"), name)
    except (ImportError, AttributeError, OSError):
        return None


def selective_scan_kernel(u: Tensor) -> Any:
    """Return the kernel of the selective scan for inputs like this, or None."""
    if not u.is_cuda or u.dtype == torch.float64:
        return None
    return _kernel("selective_scan_interface", "selective_scan_fn")


def state_space_kernel(x: Tensor) -> Any:
    """Return the kernel of Mamba-2's scan for inputs like this, or None.

    It multiplies float32 in TF32, so it takes these only where PyTorch may too.
    """
    rounds = x.dtype in (torch.bfloat16, torch.float16) or torch.backends.cuda.matmul.allow_tf32
    if not x.is_cuda or x.dtype == torch.float64 or not rounds:
        return None
    return _kernel("triton.ssd_combined", "mamba_chunk_scan_combined")


def fused_selective_scan(
    kernel: Any, u: Tensor, steps: Tensor, rates: Tensor, keys: Tensor, queries: Tensor
) -> tuple[Tensor, Tensor]:
    """Return outputs [R, L, D] and the last state [R, D, N] of a scan that begins at nothing.

    Args: see `limner.layers.selective_scan.selective_scan`.
    """
    by_channel = [x.float().transpose(1, 2).contiguous() for x in (u, steps)]
    by_group = [x.float().permute(0, 2, 3, 1).contiguous() for x in (keys, queries)]
    out, state = kernel(*by_channel, rates.float(), *by_group, return_last_state=True)
    return out.transpose(1, 2), state


def fused_state_space(
    kernel: Any,
    x: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    state: Tensor | None,
) -> tuple[Tensor, Tensor]:
    """Return outputs [R, L, H, V] and the last state [R, H, N, V].

    Args: see `limner.layers.mamba.state_space`.
    """
    given = None if state is None else state.transpose(-1, -2).contiguous()
    out, last = kernel(
        x,
        steps,
        rates,
        keys,
        queries,
        chunk_size=CHUNK,
        initial_states=given,
        return_final_states=True,
    )
    return out, last.transpose(-1, -2)
