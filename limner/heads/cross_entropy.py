"""The cross-entropy of codes given hidden states, without ever holding the logits of all tokens.

Logits of a few hundred tokens are computed, turned into their own gradient in place, and used up
before the next ones are: the gradients of hidden states and output weights are ready when the loss
is (as in Liger Kernel, Hsu et al., arXiv:2410.10989). With 16384 codes the logits of a training
batch, their softmax and their gradient would else be a good part of its memory.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.autograd.function import FunctionCtx, once_differentiable

from limner.layers.linear import linear

_CHUNK_ON_CPU = 2**22  # logits computed at once: they stay in the cache hierarchy
_CHUNK = 2**26  # elsewhere: enough to keep the device busy


def projected_cross_entropy(
    hidden: Tensor, weight: Tensor, targets: Tensor, counts: Tensor | None = None
) -> Tensor:
    """Return the mean of -log softmax(weight hidden)[target] in nats, float [].

    It can be differentiated once, by hidden states and weights.

    Args:
        hidden: float [N, D].
        weight: float [V, D].
        targets: int64 [N].
        counts: [N], how much every token counts; None: all alike.
    """
    counts = torch.ones_like(targets) if counts is None else counts
    counts = counts.to(torch.promote_types(hidden.dtype, torch.float32))
    share = counts / counts.sum().clamp(min=1e-12)
    device = hidden.device.type
    if torch.is_autocast_enabled(device):
        dtype = torch.get_autocast_dtype(device)
        hidden, weight = hidden.to(dtype), weight.to(dtype)
    with torch.autocast(device, enabled=False):
        loss: Tensor = _ProjectedCrossEntropy.apply(hidden, weight, targets, share)
    return loss


def projected_errors(hidden: Tensor, weight: Tensor, targets: Tensor) -> Tensor:
    """Return which tokens' largest logit, of weight hidden, is not the target's, bool [N].

    Args:
        hidden: float [N, D].
        weight: float [V, D].
        targets: int64 [N].
    """
    rows = _rows(hidden, weight)
    parts = [linear(part, weight).argmax(-1) for part in hidden.split(rows)]
    return torch.cat(parts) != targets


def _rows(hidden: Tensor, weight: Tensor) -> int:
    """Return of how many tokens logits are computed at once."""
    chunk = _CHUNK_ON_CPU if hidden.device.type == "cpu" else _CHUNK
    return max(1, chunk // len(weight))


class _ProjectedCrossEntropy(torch.autograd.Function):
    """The sum over tokens of share [N] times cross-entropy, in the precision of `share`."""

    @staticmethod
    def forward(
        ctx: FunctionCtx, hidden: Tensor, weight: Tensor, targets: Tensor, share: Tensor
    ) -> Tensor:
        of_hidden, of_weight, *_ = ctx.needs_input_grad  # type: ignore[attr-defined]
        by_hidden = torch.empty_like(hidden) if of_hidden else None
        by_weight = torch.zeros_like(weight, dtype=share.dtype) if of_weight else None
        total = share.new_zeros(())
        rows = _rows(hidden, weight)
        for start in range(0, len(hidden), rows):
            part = slice(start, start + rows)
            target, count = targets[part].unsqueeze(1), share[part].unsqueeze(1)
            logits = linear(hidden[part], weight).to(share.dtype)
            normaliser = logits.logsumexp(1, keepdim=True)
            loss = normaliser - logits.gather(1, target)
            total += (loss * count).sum()
            if not (of_hidden or of_weight):
                continue
            # the softmax, less one at the target
            slope = logits.sub_(normaliser).exp_().scatter_(1, target, torch.expm1(-loss))
            slope = slope.mul_(count).to(hidden.dtype)
            if by_hidden is not None:
                by_hidden[part] = linear(slope, weight.T)
            if by_weight is not None:
                _add_product(by_weight, slope.T, hidden[part])
        ctx.gradients = by_hidden, by_weight  # type: ignore[attr-defined]
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: FunctionCtx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        # given away: another reference would make autograd copy them
        (by_hidden, by_weight), ctx.gradients = ctx.gradients, (None, None)  # type: ignore[attr-defined]
        if by_hidden is not None:
            by_hidden.mul_(gradient)
        if by_weight is not None:
            by_weight.mul_(gradient)
        return by_hidden, by_weight, None, None


def _add_product(total: Tensor, left: Tensor, right: Tensor) -> None:
    """Add left @ right to a sum that may be of higher precision."""
    if total.dtype == left.dtype:
        total.addmm_(left, right)
    else:
        total.add_(left @ right)
