"""Pictures alone, and the same among rows that stand at other steps."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from limner.core.generator import Generator
from limner.core.row import Options, Row
from limner.decoding import advance, generate


def drawn_together_and_alone(
    model: Generator,
    begin: Callable[[int, Options], list[Row]],
    drawn: Callable[[Sequence[Row]], Tensor],
    options: Sequence[Options],
) -> tuple[Tensor, Tensor]:
    """Draw pictures together, each joining a step after the one before, and alone.

    Args:
        begin: (seed, options) -> the rows of one picture.
        drawn: rows -> what their leads drew.
    """
    alone = []
    for seed, option in enumerate(options):
        rows = begin(seed, option)
        generate(model, rows)
        alone.append(drawn(rows))
    pictures = [begin(seed, option) for seed, option in enumerate(options)]
    memory = model.memory([row for rows in pictures for row in rows])
    everyone: list[Row] = []
    for rows in pictures:
        memory.admit(rows)
        everyone += rows
        advance(model, everyone, memory)
    while advance(model, everyone, memory):
        pass
    return drawn(everyone), torch.cat(alone)
