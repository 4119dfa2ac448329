"""One output layer for every dimension, each behind a norm and after blocks of its own (NAR).

He et al., "Neighboring Autoregressive Modeling for Efficient Visual Generation", arXiv:2503.10696.
Which head speaks for which token is said by the slots' `speaks`; what several say for one token is
averaged.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor

Layers = Sequence[Any]
"""Modules, one a head."""


def by_norms(streams: Iterable[Tensor], norms: Layers, speaks: Tensor) -> Tensor:
    """Return what the output layers read, float [R, M, width].

    Args:
        streams: of each head, float [R, L, width].
        norms: of each head.
        speaks: int64 [R, M, 3], see `Slots`.
    """
    parts = []
    for head, (stream, norm) in enumerate(zip(streams, norms, strict=True)):
        row, entry = (speaks[..., 1] == head).nonzero(as_tuple=True)
        parts.append(norm(stream[row, speaks[row, entry, 0]]))
    return _by_entry(parts, speaks)


def by_outputs(hidden: Tensor, outputs: Layers, speaks: Tensor) -> Tensor:
    """Return logits, float [R, M, V].

    Args:
        hidden: float [R, M, width].
        outputs: of each head.
        speaks: int64 [R, M, 3], see `Slots`.
    """
    parts = [output(hidden[speaks[..., 1] == head]) for head, output in enumerate(outputs)]
    return _by_entry(parts, speaks)


def side_by_side(hidden: Tensor, speaks: Tensor, shares: Tensor) -> Tensor:
    """Return what the heads read for each token, side by side: float [B, N, heads width].

    The mean logits of a token are this times the output weights side by side.

    Args:
        hidden: float [B, M, width].
        speaks: int64 [M, 3], the same for all rows.
        shares: float [N, heads], weight of each head's logits in those of a token.
    """
    _, head, token = speaks.unbind(-1)
    share = shares[token, head].to(hidden).unsqueeze(-1)
    side = hidden.new_zeros(len(hidden), *shares.shape, hidden.shape[-1])
    side[:, token, head] = hidden * share
    return side.flatten(2)


def _by_entry(parts: Sequence[Tensor], speaks: Tensor) -> Tensor:
    """Put what each head gives, float [n, D], at the entries that speak with it: [R, M, D]."""
    whole = parts[0].new_zeros(*speaks.shape[:2], parts[0].shape[-1])
    for head, part in enumerate(parts):
        whole[speaks[..., 1] == head] = part
    return whole
