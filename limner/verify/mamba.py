"""Replays of Mamba's layer and of its scan alone."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from limner.core.layout import grid
from limner.core.noise import SeededNoise
from limner.core.row import Row
from limner.core.slots import Slots, batch, up_to
from limner.core.tokens import empty
from limner.hub.official.mamba import mamba
from limner.layers.selective_scan import selective_scan, step_sizes
from limner.layers.state_memory import StateMemory
from limner.orders import raster
from limner.verify import names
from limner.verify.case import Case
from limner.verify.registry import replay


@replay("mamba-block/block*")
@torch.no_grad()
def block(case: Case) -> None:
    """The layer in two passes, the second from the states that the first left."""
    layer, x = mamba(case.hyper, case.weights()), case.input("x")
    count, length = x.shape[:2]
    tokens = empty(grid(1, length), codes=1)
    rows = [Row(tokens, raster(tokens.layout), SeededNoise(0), {}) for _ in range(count)]
    memory = StateMemory(1)
    memory.admit(rows)
    outs, tails = [], []
    for part in (torch.arange(length - 1), torch.arange(length - 1, length)):
        slots = Slots.of(part, part, torch.empty(0, 3, dtype=torch.int64))
        reading = memory.read(rows, batch([slots] * count), up_to)
        outs.append(layer(x[:, part], reading))
        reading.close()
        tails.append(memory.states[0][0].clone())
    case.check("out", torch.cat(outs, dim=1))
    case.check("ssm_state", memory.states[0][1])
    # the published layer keeps one value more than its convolution will read
    kept = torch.cat([tails[0][:, :1], tails[1]], dim=1)
    case.check("conv_state_input", kept.transpose(1, 2))


@replay("mamba-block/selective_scan*")
@torch.no_grad()
def scan(case: Case) -> None:
    """The scan under every set of arguments that the case states."""
    for name in ("out", "last_state", "out_plain"):
        out, last = _scan(case, case.arguments(name))
        case.check(name, last if name == "last_state" else out.transpose(1, 2))


def _scan(case: Case, arguments: dict[str, Any]) -> tuple[Tensor, Tensor]:
    """Return outputs [B, L, D] and the last state."""
    steps = case.input("delta").transpose(1, 2)
    scaled = names.parse("{factor}*abs(delta)", str(arguments.get("delta", "")))
    if scaled is not None:
        steps = float(scaled["factor"]) * steps.abs()
    if arguments["delta_softplus"]:
        bias = case.input("delta_bias")
        steps = step_sizes(steps, bias if arguments["delta_bias"] else torch.zeros_like(bias))
    keys, queries = (_by_group(case.input(name)) for name in ("B", "C"))
    return selective_scan(
        case.input("u").transpose(1, 2),
        steps,
        case.input("A"),
        keys,
        queries,
        case.input("D") if arguments["D"] else None,
        case.input("z").transpose(1, 2) if arguments["z"] else None,
    )


def _by_group(x: Tensor) -> Tensor:
    """Return [B, L, G, N] of [B, N, L] or [B, G, N, L]."""
    return (x.unsqueeze(1) if x.dim() == 3 else x).permute(0, 3, 1, 2)
