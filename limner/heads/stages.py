"""Logits stages: what happens to guided logits before a token is drawn.

The default order is processors (constraints, watermarks, ...), temperature, top-k, top-p, min-p.
Every stage works on all rows at once, each row by its own options; removed entries become -inf.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from limner.core.errors import check
from limner.core.head import Turn
from limner.core.order import Step
from limner.core.row import Row


class Stage(Protocol):
    """One step of the way from logits to the distribution that is drawn from."""

    def __call__(self, logits: Tensor, turn: Turn) -> Tensor:
        """Return new logits [R, n, V]."""
        ...


class Processor(Protocol):
    """A row's own change to its logits; it may look at the row's earlier tokens."""

    def __call__(self, logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        """Return new logits [n, V] for int64 tokens [n]."""
        ...


@dataclass(frozen=True)
class StepTemperature:
    """A processor that divides by one temperature a step (Infinity's `tau_list`).

    Args:
        temperatures: of every step, in order; each above 0.
    """

    temperatures: tuple[float, ...]

    def __post_init__(self) -> None:
        fits = len(self.temperatures) > 0 and min(self.temperatures) > 0
        check(fits, "temperatures", self.temperatures, "numbers above 0, one a step")

    def __call__(self, logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        """Return new logits of the row's step.

        Raises:
            ConfigError: there are fewer temperatures than steps.
        """
        fits = len(self.temperatures) > row.step
        check(fits, "temperatures", self.temperatures, "a number for each of the steps")
        return logits / self.temperatures[row.step]


@dataclass(frozen=True)
class UnlikelyCodes:
    """A processor that gives some codes the same low logit (FlexVAR's `invalid_ids`).

    Args:
        codes: int64 [n].
        logit: what they get; as conditions do not move it, guidance does not either.
    """

    codes: Tensor
    logit: float = -100.0

    def __call__(self, logits: Tensor, row: Row, tokens: Tensor) -> Tensor:
        """Return new logits."""
        return logits.index_fill(-1, self.codes.to(logits.device), self.logit)


@dataclass(frozen=True)
class LikeliestElsewhere:
    """A stage that keeps the likeliest code alone at maps of other sides than some.

    Args:
        sides: of maps (the longer one of oblong maps) whose codes are drawn at random.
        longest: of these sides that counts; beyond it, too, the likeliest code is taken.

    Source: `autoregressive_infer_cfg` in models/flexvar.py of jiaosiyu1999/FlexVAR.
    """

    sides: tuple[int, ...]
    longest: int

    def __call__(self, logits: Tensor, turn: Turn) -> Tensor:
        """Return new logits."""
        chosen = [self._likeliest(*pair) for pair in zip(turn.rows, turn.steps, strict=True)]
        if not any(chosen):
            return logits
        alone = _column([float(each) for each in chosen], logits) > 0
        lower = logits < logits.amax(-1, keepdim=True)
        return logits.masked_fill(alone & lower, -torch.inf)

    def _likeliest(self, row: Row, step: Step) -> bool:
        layout = row.tokens.layout
        side = max(layout.segments[layout.segment_at(step.first)].size)
        return side > self.longest or side not in self.sides


def processors(logits: Tensor, turn: Turn) -> Tensor:
    """Run every row's own processors, in their order."""
    if not any(row.options.processors for row in turn.rows):
        return logits
    parts = []
    for part, row, tokens in zip(logits, turn.rows, turn.tokens, strict=True):
        real = int((tokens >= 0).sum())
        for process in row.options.processors:
            changed = process(part[:real], row, tokens[:real])
            part = torch.cat([changed, part[real:]])
        parts.append(part)
    return torch.stack(parts)


def temperature(logits: Tensor, turn: Turn) -> Tensor:
    """Divide by each row's temperature; 0 keeps one largest entry alone."""
    by_row = [row.options.temperature for row in turn.rows]
    if all(t == 1.0 for t in by_row):
        return logits
    scale = _column([t or 1.0 for t in by_row], logits)
    greedy = _column([float(t == 0) for t in by_row], logits) > 0
    codes = torch.arange(logits.shape[-1], device=logits.device)
    largest = codes == logits.argmax(-1, keepdim=True)
    return (logits / scale).masked_fill(greedy & ~largest, -torch.inf)


def top_k(logits: Tensor, turn: Turn) -> Tensor:
    """Keep each row's k largest logits; ties with the k-th stay."""
    by_row = [row.options.top_k for row in turn.rows]
    if not any(by_row):
        return logits
    size = logits.shape[-1]
    kept = [min(k or size, size) for k in by_row]
    if all(k == kept[0] for k in kept):
        threshold = logits.topk(kept[0], dim=-1, sorted=False).values.amin(-1, keepdim=True)
    else:
        ordered = logits.sort(dim=-1, descending=True).values
        index = torch.tensor(kept, device=logits.device).reshape(-1, 1, 1) - 1
        threshold = ordered.gather(-1, index.expand(-1, logits.shape[1], 1))
    return logits.masked_fill(logits < threshold, -torch.inf)


def top_p(logits: Tensor, turn: Turn) -> Tensor:
    """Keep the most likely tokens up to and including the one that brings the sum above p.

    The descending form of LlamaGen's `top_k_top_p_filtering`.
    """
    by_row = [row.options.top_p for row in turn.rows]
    if all(p == 1.0 for p in by_row):
        return logits
    ordered, index = _likeliest_first(logits)
    reached = ordered.softmax(-1).cumsum(-1)
    # a row without top-p keeps everything, whatever its sum rounds to
    limit = _column([p if p < 1 else 2.0 for p in by_row], logits)
    removed = reached > limit
    removed = torch.cat([torch.zeros_like(removed[..., :1]), removed[..., :-1]], dim=-1)
    return _put_back(logits, index, ordered, removed)


def top_p_ascending(logits: Tensor, turn: Turn) -> Tensor:
    """Remove the least likely tokens whose probabilities sum to at most 1 - p.

    VAR's form. It keeps what `top_p` keeps, except that it drops a token before which the sum is
    exactly p, and that among equally likely tokens it may keep others.
    """
    by_row = [row.options.top_p for row in turn.rows]
    if all(p == 1.0 for p in by_row):
        return logits
    ordered, index = (part.flip(-1) for part in _likeliest_first(logits))
    # a row without top-p keeps everything
    limit = _column([1 - p if p < 1 else -1.0 for p in by_row], logits)
    removed = ordered.softmax(-1).cumsum(-1) <= limit
    removed[..., -1] = False
    return _put_back(logits, index, ordered, removed)


def _likeliest_first(logits: Tensor) -> tuple[Tensor, Tensor]:
    """Return logits in falling order, and their codes; CPUs leave out what was removed before."""
    if logits.device.type != "cpu":
        return logits.sort(dim=-1, descending=True)
    left = int((logits > -torch.inf).sum(-1).amax())
    return logits.topk(left, dim=-1)


def _put_back(logits: Tensor, index: Tensor, ordered: Tensor, removed: Tensor) -> Tensor:
    kept = ordered.masked_fill(removed, -torch.inf)
    return torch.full_like(logits, -torch.inf).scatter_(-1, index, kept)


def min_p(logits: Tensor, turn: Turn) -> Tensor:
    """Keep tokens whose probability is at least a share of the most likely one's."""
    by_row = [row.options.min_p for row in turn.rows]
    if not any(by_row):
        return logits
    share = _column(by_row, logits)
    limit = logits.amax(-1, keepdim=True) + share.log()
    return logits.masked_fill(logits < limit, -torch.inf)


DEFAULT_STAGES: tuple[Stage, ...] = (processors, temperature, top_k, top_p, min_p)


def _column(values: Sequence[float], like: Tensor) -> Tensor:
    return torch.tensor(values, device=like.device, dtype=like.dtype).reshape(-1, 1, 1)
