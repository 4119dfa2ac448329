"""Mamba and Mamba-2: recurrent layers that mix a sequence in linear time.

Gu and Dao, "Mamba: Linear-Time Sequence Modeling with Selective State Spaces", arXiv:2312.00752;
Dao and Gu, "Transformers are SSMs", arXiv:2405.21060; facts from mamba_ssm/modules/{mamba_simple,
mamba2}.py of state-spaces/mamba.

Both project a token to values and a gate, pass the values through a short causal convolution and a
state-space model, and project back. They carry a state of constant size from slot to slot, so a
`RecurrentReading` (such as `StateMemory` opens) continues them exactly where the last pass ended.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.errors import check
from limner.core.memory import RecurrentReading, State
from limner.layers.causal_convolution import CausalConvolution
from limner.layers.fused_scans import fused_state_space, state_space_kernel
from limner.layers.linear import Linear
from limner.layers.linear_attention import decaying_attention
from limner.layers.norms import GatedRMSNorm
from limner.layers.selective_scan import frozen, selective_scan, step_sizes

STEPS = (1e-3, 1e-1)
"""Between these, evenly by their logarithm, lie the sizes of steps at the start of training."""

RATES = (1.0, 16.0)
"""Between these lie the rates of decay of Mamba-2's heads at the start of training."""


def state_space(
    x: Tensor,
    steps: Tensor,
    rates: Tensor,
    keys: Tensor,
    queries: Tensor,
    state: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Return what every slot reads of a state-space model with one rate a head, and its last state.

    Args:
        x: float [R, L, H, V].
        steps: float [R, L, H], 0 or more.
        rates: float [H], below 0.
        keys: float [R, L, G, N]; each of the G groups serves H / G successive heads.
        queries: float [R, L, G, N].
        state: float [R, H, N, V], what the slots before left; None: zeros.

    Returns:
        float [R, L, H, V] in the dtype of `x`, and float [R, H, N, V] in float32 at least.
    """
    kernel = state_space_kernel(x)
    if kernel is not None:
        return fused_state_space(kernel, x, steps, rates, keys, queries, state)
    values = x.to(steps.dtype) * steps.unsqueeze(-1)
    out, state = decaying_attention(queries, keys, values, steps * rates, state)
    return out.to(x.dtype), state


class Mamba(nn.Module):
    """Mamba's layer: every channel has its own state, rates and steps.

    Args:
        width: in and out.
        layer: number under which its state is remembered.
        state: N, numbers of state of every channel.
        expand: inner width by the width.
        kernel: of the convolution.
        rank: of the projection to step sizes; None: a sixteenth of the width.
    """

    def __init__(
        self,
        width: int,
        layer: int,
        state: int = 16,
        expand: int = 2,
        kernel: int = 4,
        rank: int | None = None,
    ) -> None:
        super().__init__()
        self.layer = layer
        inner, self.rank = expand * width, rank or math.ceil(width / 16)
        self.into = Linear(width, 2 * inner, bias=False)
        self.convolution = CausalConvolution(inner, kernel)
        self.select = nn.Linear(inner, self.rank + 2 * state, bias=False)
        self.steps = nn.Linear(self.rank, inner)
        self.log_rates = nn.Parameter(torch.arange(1.0, state + 1).log().repeat(inner, 1))
        self.skip = nn.Parameter(torch.ones(inner))
        self.out = Linear(inner, width, bias=False)
        nn.init.uniform_(self.steps.weight, -(self.rank**-0.5), self.rank**-0.5)
        _start_steps(self.steps.bias)

    def forward(self, x: Tensor, reading: RecurrentReading) -> Tensor:
        """Mix float [R, L, width]."""
        return reading.recur(self.layer, self.recurrence, x)

    def recurrence(
        self, x: Tensor, state: State | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See `limner.core.memory.Recurrence`; the state is the convolution's and the scan's."""
        tail, before = state or (None, None)
        u, gate = self.into(x).chunk(2, dim=-1)
        u, tail = self.convolution(u, tail, counts)
        u = functional.silu(u)
        size = self.log_rates.shape[1]
        low, keys, queries = self.select(u).split([self.rank, size, size], dim=-1)
        steps = step_sizes(functional.linear(low, self.steps.weight), self.steps.bias)
        rates = -self.log_rates.to(steps.dtype).exp()
        keys, queries = keys.unsqueeze(2), queries.unsqueeze(2)
        steps = frozen(steps, counts)
        mixed, after = selective_scan(u, steps, rates, keys, queries, self.skip, gate, before)
        return self.out(mixed), (tail, after)


class Mamba2(nn.Module):
    """Mamba-2's layer: every head has one rate and one step, and a matrix as its state.

    Args:
        width: in and out.
        layer: number under which its state is remembered.
        state: N, rows of a head's state.
        expand: inner width by the width.
        head_width: of every head; divides the inner width.
        groups: of successive heads with keys and queries in common.
        kernel: of the convolution.
    """

    def __init__(
        self,
        width: int,
        layer: int,
        state: int = 64,
        expand: int = 2,
        head_width: int = 64,
        groups: int = 1,
        kernel: int = 4,
    ) -> None:
        super().__init__()
        inner = expand * width
        check(inner % head_width == 0, "head_width", head_width, f"a divisor of {inner}")
        self.heads = inner // head_width
        check(self.heads % groups == 0, "groups", groups, f"a divisor of {self.heads} heads")
        self.layer, self.groups = layer, groups
        self.parts = [inner, inner + 2 * groups * state, self.heads]  # gate; convolved; steps
        self.convolved = [inner, groups * state, groups * state]  # values; keys; queries
        self.into = Linear(width, sum(self.parts), bias=False)
        self.convolution = CausalConvolution(self.parts[1], kernel)
        self.step_bias = nn.Parameter(torch.empty(self.heads))
        self.log_rates = nn.Parameter(torch.empty(self.heads).uniform_(*RATES).log())
        self.skip = nn.Parameter(torch.ones(self.heads))
        self.norm = GatedRMSNorm(inner, groups=groups)
        self.out = Linear(inner, width, bias=False)
        _start_steps(self.step_bias)

    def forward(self, x: Tensor, reading: RecurrentReading) -> Tensor:
        """Mix float [R, L, width]."""
        return reading.recur(self.layer, self.recurrence, x)

    def recurrence(
        self, x: Tensor, state: State | None = None, counts: Tensor | None = None
    ) -> tuple[Tensor, State]:
        """See `limner.core.memory.Recurrence`; the state is the convolution's and the scan's."""
        tail, before = state or (None, None)
        gate, convolved, steps = self.into(x).split(self.parts, dim=-1)
        convolved, tail = self.convolution(convolved, tail, counts)
        values, keys, queries = functional.silu(convolved).split(self.convolved, dim=-1)
        values = values.unflatten(-1, (self.heads, -1))
        keys = keys.unflatten(-1, (self.groups, -1))
        queries = queries.unflatten(-1, (self.groups, -1))
        steps = frozen(step_sizes(steps, self.step_bias), counts)
        rates = -self.log_rates.to(steps.dtype).exp()
        mixed, after = state_space(values, steps, rates, keys, queries, before)
        mixed = mixed + self.skip.to(values.dtype).unsqueeze(-1) * values
        return self.out(self.norm(mixed.flatten(2), gate)), (tail, after)


@torch.no_grad()
def _start_steps(bias: Tensor) -> None:
    """Set biases so that softplus of them gives steps drawn from `STEPS`."""
    low, high = (math.log(step) for step in STEPS)
    steps = torch.empty_like(bias).uniform_(low, high).exp()
    bias.copy_(steps + (-torch.expm1(-steps)).log())  # the inverse of softplus
