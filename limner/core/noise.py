"""Noise: the random numbers a row consumes, from its seed or replayed from a reference case.

A number depends on (seed, purpose, token, inner step, lane) alone: never on the batch, the order in
which tokens are drawn, the device or what was drawn before. The numbers come from the counter-based
generator Philox-4x32-10 (Salmon et al., "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
computed on the CPU in int64, so every device sees the same bits.
"""

from __future__ import annotations

import hashlib
import math
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from typing import Protocol

import torch
from torch import Tensor

from limner.core.errors import LimnerError


class Noise(Protocol):
    """Random numbers of one row, addressed by what they are for."""

    def normal(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return standard normal numbers, float64 [n, *shape], for int64 tokens [n]."""
        ...

    def uniform(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return uniform numbers in (0, 1), float64 [n, *shape], for int64 tokens [n]."""
        ...

    def gumbel(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return standard Gumbel numbers, float64 [n, *shape], for int64 tokens [n]."""
        ...


class SeededNoise:
    """Noise from a seed.

    Args:
        seed: any int; its lowest 64 bits are used.
    """

    _BLOCK = 256  # scalars of neighbours are computed together and kept
    _KEPT = 16
    _FEW = 8  # blocks of which one call reads
    _AHEAD = 32  # inner steps of a solver that are computed together

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._blocks: OrderedDict[tuple[str, int, int], Tensor] = OrderedDict()
        self._solver: tuple[Hashable, Tensor] | None = None

    def uniform(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return uniform numbers in (0, 1), float64 [n, *shape]."""
        tokens = tokens.cpu()
        if len(tokens) == 1 and not shape:
            block, within = divmod(int(tokens), self._BLOCK)
            return self._block(purpose, inner, block)[within : within + 1]
        if shape or inner or len(tokens) == 0:
            return self._uniform(purpose, tokens, inner, shape)
        first, last = (int(token) // self._BLOCK for token in tokens.aminmax())
        if last - first >= self._FEW:
            return self._uniform(purpose, tokens, inner, shape)
        blocks = [self._block(purpose, inner, block) for block in range(first, last + 1)]
        return torch.cat(blocks)[tokens - first * self._BLOCK]

    def normal(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return standard normal numbers, float64 [n, *shape] (Box-Muller)."""
        pairs = self._uniform(purpose, tokens.cpu(), inner, (*shape, 2))
        radius = torch.sqrt(-2.0 * torch.log(pairs[..., 0]))
        return radius * torch.cos(2.0 * math.pi * pairs[..., 1])

    def gumbel(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        """Return standard Gumbel numbers, float64 [n, *shape]."""
        return -torch.log(-torch.log(self.uniform(purpose, tokens, inner, shape)))

    def _block(self, purpose: str, inner: int, block: int) -> Tensor:
        key = (purpose, inner, block)
        if key not in self._blocks:
            tokens = torch.arange(block * self._BLOCK, (block + 1) * self._BLOCK)
            self._blocks[key] = self._uniform(purpose, tokens, inner, ())
            if len(self._blocks) > self._KEPT:
                self._blocks.popitem(last=False)
        self._blocks.move_to_end(key)
        return self._blocks[key]

    def _uniform(self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...]) -> Tensor:
        if inner == 0 or len(tokens) == 0:
            return self._drawn(purpose, tokens, range(inner, inner + 1), shape)[0]
        # a solver asks for one inner step after another: those that follow are computed at once
        first = 1 + (inner - 1) // self._AHEAD * self._AHEAD
        key = (purpose, tuple(tokens.tolist()), first, shape)
        if self._solver is None or self._solver[0] != key:
            steps = range(first, first + self._AHEAD)
            self._solver = (key, self._drawn(purpose, tokens, steps, shape))
        return self._solver[1][inner - first]

    def _drawn(self, purpose: str, tokens: Tensor, inner: range, shape: tuple[int, ...]) -> Tensor:
        """Return uniform numbers, float64 [inner, n, *shape]."""
        lanes = math.prod(shape)
        size = (len(inner), len(tokens), (lanes + 3) // 4)
        steps = torch.arange(inner.start, inner.stop) & 0xFFFFFFFF
        counter = (
            torch.arange(size[2]).expand(size),
            tokens.to(torch.int64).reshape(1, -1, 1).expand(size),
            steps.reshape(-1, 1, 1).expand(size),
            torch.full(size, _word(purpose)),
        )
        key = (self.seed & 0xFFFFFFFF, (self.seed >> 32) & 0xFFFFFFFF)
        bits = torch.stack(philox(counter, key), dim=-1).flatten(2)[..., :lanes]
        return ((bits.to(torch.float64) + 0.5) / 2.0**32).reshape(*size[:2], *shape)


class ReplayedNoise:
    """Noise given as tensors, one per purpose: a run is then replayed number by number.

    Args:
        given: purpose -> tensor [N, *shape] (the same for every inner step) or, for the purposes
            named in `per_inner`, [N, inner steps, *shape].
        per_inner: purposes whose second dimension counts inner steps.

    Raises:
        LimnerError: noise is asked for that was not given.
    """

    def __init__(self, given: Mapping[str, Tensor], per_inner: tuple[str, ...] = ()) -> None:
        self.given = dict(given)
        self.per_inner = per_inner

    def _read(
        self, purpose: str, tokens: Tensor, inner: int, shape: tuple[int, ...] = ()
    ) -> Tensor:
        if purpose not in self.given:
            raise LimnerError(
                f"noise for {purpose!r} was not given; given: {', '.join(sorted(self.given))}"
            )
        numbers = self.given[purpose][tokens.cpu()]
        if purpose in self.per_inner:
            numbers = numbers[:, inner]
        if numbers.shape[1:] != shape:
            raise LimnerError(
                f"noise for {purpose!r} is {tuple(numbers.shape[1:])} a token, {shape} is needed"
            )
        return numbers

    normal = uniform = gumbel = _read


def _word(purpose: str) -> int:
    return int.from_bytes(hashlib.sha256(purpose.encode()).digest()[:4], "little")


_MULTIPLIERS = (0xD2511F53, 0xCD9E8D57)
_WEYL = (0x9E3779B9, 0xBB67AE85)
_MASK = 0xFFFFFFFF


def philox(
    counter: tuple[Tensor, Tensor, Tensor, Tensor], key: tuple[int, int], rounds: int = 10
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return four random 32-bit words (as int64) for every counter.

    Args:
        counter: four int64 tensors of one shape, each holding 32-bit words.
        key: two 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(rounds):
        high0, low0 = _multiply(c0, _MULTIPLIERS[0])
        high1, low1 = _multiply(c2, _MULTIPLIERS[1])
        c0, c1, c2, c3 = high1 ^ c1 ^ k0, low1, high0 ^ c3 ^ k1, low0
        k0, k1 = (k0 + _WEYL[0]) & _MASK, (k1 + _WEYL[1]) & _MASK
    return c0, c1, c2, c3


def _multiply(word: Tensor, factor: int) -> tuple[Tensor, Tensor]:
    # a product of two 32-bit words wraps in int64, but its bits are right
    product = word * factor
    return (product >> 32) & _MASK, product & _MASK
