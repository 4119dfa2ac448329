"""All steps of a drawing in one pass, on the inputs that they were drawn from."""

from __future__ import annotations

import torch

from limner.core.canvas import read_all
from limner.core.generator import Generator, Packed
from limner.core.noise import SeededNoise
from limner.core.row import Condition, Options
from limner.core.slots import Slots, batch, concatenate
from limner.core.tokens import Tokens


def packed_as_drawn(generator: Generator, tokens: Tokens, condition: Condition) -> Packed:
    """Return the pass whose outputs are those of every step of a drawing, one after the other.

    Args:
        generator: draws every token once, by an order that follows from the layout.
        tokens: drawn, [B, N].
        condition: that they were drawn by, a batch of B.
    """
    slots: list[Slots] = []
    for index in range(len(tokens)):
        own = {name: value[index : index + 1] for name, value in condition.items()}
        row = generator.begin(tokens.row(index), own, Options(), SeededNoise(0))[0]
        read = []
        while (step := row.order.next(row)) is not None:
            read.append(generator.slots(row, step))
            row.step += 1
        taken = concatenate(read)
        alike = bool(slots) and _same(slots[0], taken)
        slots.append(slots[0] if alike else taken)
    with torch.no_grad():
        fed = read_all(generator.canvas, tokens)
    return Packed(tokens, batch(slots), [condition], fed=fed)


def _same(one: Slots, other: Slots) -> bool:
    names = ("place", "since", "copy", "commit", "speaks")
    return all(torch.equal(getattr(one, name), getattr(other, name)) for name in names)
