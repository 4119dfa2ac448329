"""FlexVAR's lists of scales: for every number of steps and every size, and at random in training.

A list holds the sides of square maps, coarse to fine. Pictures of other shapes stretch it; pictures
larger than any in training go on from its end by about the square root of 2 a step, which makes of
the 13-step list the published one for 512 px.

Jiao et al., "FlexVAR: Flexible Visual Autoregressive Modeling without Residual Prediction",
arXiv:2502.20313; facts from trainer.py and README of jiaosiyu1999/FlexVAR. Lists of other lengths
than the published ones are a choice.
"""

from __future__ import annotations

import math

import torch

from limner.core.errors import check

Sizes = tuple[tuple[int, int], ...]
"""Rows and columns of every scale, coarse to fine."""

PUBLISHED = {
    6: (1, 2, 4, 6, 10, 16),
    8: (1, 2, 3, 5, 7, 10, 13, 16),
    9: (1, 2, 3, 4, 5, 7, 10, 13, 16),
    10: (1, 2, 3, 4, 5, 6, 8, 10, 13, 16),
    11: (1, 2, 3, 4, 5, 6, 7, 9, 11, 13, 16),
    12: (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16),
    13: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12, 14, 16),
    14: (1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 14, 16),
}
"""By number of steps, for maps of up to 16 x 16 tokens (256 px)."""

USUAL_SHARE = 0.05  # of the training steps, that take the usual list
DROPS = (0.9, 0.95, 0.98, 0.99)  # one number above so many of these leaves out so many maps


def stretched(sides: tuple[int, ...], last: int, rows: int, columns: int) -> Sizes:
    """Return square maps, stretched so that one of side `last` would be `rows` x `columns`.

    Maps that become equal are kept once.
    """
    sizes = ((max(1, side * rows // last), max(1, side * columns // last)) for side in sides)
    return tuple(dict.fromkeys(sizes))


def scale_list(usual: tuple[int, ...], rows: int, columns: int, steps: int | None = None) -> Sizes:
    """Return the scales of a picture whose finest grid is given.

    Args:
        usual: list of a square picture of the size in training; its last side is that size.
        steps: number of scales; None: as in the usual list, and those of a larger picture.

    Raises:
        ConfigError: so many scales cannot be had.
    """
    last, shorter = usual[-1], min(rows, columns)
    grown = _grown(last, rows, columns) if shorter > last else ()
    if grown:
        rows, columns = (round(side * last / shorter) for side in (rows, columns))
    if steps is None:
        return stretched(usual, last, rows, columns) + grown
    longest = min(last, max(rows, columns))
    most = longest + len(grown)
    fits = min(2, longest) + len(grown) <= steps <= most
    accepted = f"from {min(2, longest) + len(grown)} to {most} for {rows}x{columns} tokens"
    check(fits, "steps", steps, accepted)
    sides = spread(longest, steps - len(grown))
    return stretched(sides, longest, rows, columns) + grown


def spread(last: int, steps: int) -> tuple[int, ...]:
    """Return a list of so many sides from 1 to `last`: the published one, or even ratios."""
    if last == 16 and steps in PUBLISHED:
        return PUBLISHED[steps]
    sides = [1]
    for step in range(1, steps):
        even = round(last ** (step / (steps - 1)))
        sides.append(min(max(even, sides[-1] + 1), last - (steps - 1 - step)))
    return tuple(sides)


def random_list(
    usual: tuple[int, ...], mixed: tuple[tuple[int, int, int], ...], rng: torch.Generator
) -> tuple[int, ...]:
    """Return a list for one training step, of no more tokens than the usual one has.

    Args:
        usual: the first two sides and the last are in every list, but for the drops.
        mixed: first, last and number of the sides that are drawn between them, by range.
        rng: on the CPU.
    """
    sides = list(usual)
    if mixed and float(torch.rand((), generator=rng)) >= USUAL_SHARE:
        drawn = [
            first + side
            for first, stop, count in mixed
            for side in torch.randperm(stop - first + 1, generator=rng)[:count].tolist()
        ]
        sides = [*usual[:2], *sorted(drawn), usual[-1]]
    level = float(torch.rand((), generator=rng))
    for _ in range(sum(level > limit for limit in DROPS) if mixed else 0):
        if len(sides) > 3:
            sides.pop(2 + _below(len(sides) - 3, rng))
    while sum(side**2 for side in sides) > sum(side**2 for side in usual):
        sides.pop(len(sides) - 1 - _below(min(4, len(sides)), rng))
    return tuple(sides)


def _grown(last: int, rows: int, columns: int) -> Sizes:
    """Return the maps that follow those of the trained size, up to the picture's own."""
    ratio = min(rows, columns) / last
    count = math.ceil(2 * math.log2(ratio))
    shares = (ratio ** (step / count - 1) for step in range(1, count))
    between = ((round(rows * share), round(columns * share)) for share in shares)
    return (*between, (rows, columns))


def _below(count: int, rng: torch.Generator) -> int:
    return int(torch.randint(count, (), generator=rng))
