"""Attention inside a picture, and a decaying state that carries over from one picture to the next.

Hui et al., "ARFlow: Autoregressive Flow with Hybrid Linear Attention", arXiv:2501.16085; facts from
linearattention/gated_retnet_{train,infer}.py of TheFllood/ARFlow. Unlike in
`limner.layers.linear_attention`, a chunk is a picture: inside it attention is by softmax and in
both directions, and the state decays once a picture, by the mean of its gates.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from limner.core.memory import RecurrentReading, State, scaled_attention
from limner.layers.linear import Linear
from limner.layers.norms import RMSNorm


class HybridAttention(nn.Module):
    """Gated multi-head attention over successive pictures of a row.

    Args:
        width: in and out.
        heads: number of heads.
        layer: number under which the state is remembered.
        normaliser: logarithms of gates are divided by it: the larger, the longer states last.
        eps: of the norms, which have no weights.
    """

    def __init__(
        self, width: int, heads: int, layer: int, normaliser: float = 16.0, eps: float = 1e-6
    ) -> None:
        super().__init__()
        self.heads = heads
        self.layer = layer
        self.normaliser = normaliser
        self.qkvg = Linear(width, 4 * width, bias=False)
        self.decay = Linear(width, heads, bias=False)
        self.norm = RMSNorm(width, eps, affine=False)
        self.head_norm = RMSNorm(width // heads, eps, affine=False)
        self.out = Linear(width, width, bias=False)

    def forward(self, x: Tensor, reading: RecurrentReading, vector: Tensor) -> Tensor:
        """Map float [R, S, N, width], S pictures of N tokens, to the same shape.

        Args:
            vector: what each picture is drawn by, float [R, S, 1, width].
        """
        pictures = x.shape[1]
        query, key, value, gate = self.qkvg(x).chunk(4, dim=-1)
        decay = functional.logsigmoid(self.decay(x + vector).float()) / self.normaliser
        size = self.heads, -1
        query, key, value = (
            self.norm(part).unflatten(-1, size).transpose(2, 3) for part in (query, key, value)
        )
        key = key * key.shape[-1] ** -0.5
        decay = decay.transpose(2, 3).to(torch.promote_types(key.dtype, torch.float32))

        def carry(x: Tensor, state: State | None, counts: Tensor | None) -> tuple[Tensor, State]:
            # rows are whole pictures of one size: there is no padding to be counted
            before = None if state is None else state[0]
            read, after = carried(query, key, value, decay, before)
            return read.transpose(2, 3).flatten(1, 2), (after,)

        alone = (query.flatten(0, 1), key.flatten(0, 1), value.flatten(0, 1))
        inner = scaled_attention(*alone, mask=None, scale=1.0)
        cross = reading.recur(self.layer, carry, x.flatten(1, 2)).unflatten(1, (pictures, -1))
        mixed = inner.unflatten(0, x.shape[:2]).transpose(2, 3) + cross
        merged = self.head_norm(mixed).flatten(3).to(gate.dtype)
        out: Tensor = self.out(functional.silu(gate) * merged)
        return out


def carried(
    query: Tensor, key: Tensor, value: Tensor, decay: Tensor, state: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Return what pictures read of those before them, and the state after the last.

    Computed in float32, or in float64 where the values are.

    Args:
        query: float [R, S, heads, N, d]; key and value: the same.
        decay: float [R, S, heads, N], logarithms, at most 0.
        state: float [R, heads, d, d], what the pictures before left; None: zeros.

    Returns:
        float [R, S, heads, N, d], and float [R, heads, d, d].
    """
    dtype = torch.promote_types(value.dtype, torch.float32)
    with torch.autocast(value.device.type, enabled=False):
        query, key, value, decay = (part.to(dtype) for part in (query, key, value, decay))
        added = key.transpose(-1, -2) @ value
        now = torch.zeros_like(added[:, 0]) if state is None else state.to(dtype)
        befores = []
        for index, lasts in enumerate(decay.mean(-1).exp().unbind(1)):
            befores.append(now)
            now = lasts[..., None, None] * now + added[:, index]
        faded = query * decay.cumsum(-1).exp().unsqueeze(-1)
        return faded @ torch.stack(befores, dim=1), now
