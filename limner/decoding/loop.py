"""The generation loop: every generator, head, order and tokenizer of limner is drawn by it.

order -> slots -> inputs -> network with memory -> guidance -> logits stages -> head -> tokens
written -> canvas, memory, hooks. Serving, editing, streaming and previews are callers or hooks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import torch

from limner.core.generator import Generator
from limner.core.memory import Memory
from limner.core.order import Step
from limner.core.row import Event, Row
from limner.decoding.turn import Turn

Hook = Callable[[list[Event]], None]
"""Called after every step with what each row drew. Raising `Cancelled` ends a run."""


class Cancelled(Exception):
    """Raised by a hook to stop drawing; the rows keep what they have."""


@torch.no_grad()
def advance(
    generator: Generator, rows: Sequence[Row], memory: Memory, hooks: Sequence[Hook] = ()
) -> list[Event]:
    """Bring every row one step forward; rows may be at different steps.

    Args:
        generator: whose network and head draw.
        rows: lead rows and their null rows, admitted to the memory; finished ones are passed over.
        memory: from `generator.memory`.
        hooks: called with the events.

    Returns:
        One event for every lead row that drew something; empty when all rows are finished.
    """
    pending = [(row, row.order.next(row)) for row in rows if row.lead is None]
    leads = [row for row, step in pending if step is not None]
    if not leads:
        return []
    steps = [step for _, step in pending if step is not None]
    drawing = {id(row) for row in leads}
    nulls = [row for row in rows if id(row.lead) in drawing]
    _reopen(leads, steps)
    turn = Turn(generator, leads, steps, nulls, memory)
    events = turn.write(generator.head.draw(turn))
    for hook in hooks:
        hook(events)
    return events


def generate(
    generator: Generator,
    rows: Sequence[Row],
    hooks: Sequence[Hook] = (),
    memory: Memory | None = None,
) -> Sequence[Row]:
    """Draw all rows to their end.

    Args:
        rows: as `generator.begin` makes them.
        hooks: called after every step; one that raises `Cancelled` ends the run.
        memory: see `steps`.

    Returns:
        The lead rows, with their tokens drawn.
    """
    try:
        for _ in steps(generator, rows, hooks, memory):
            pass
    except Cancelled:
        pass
    return [row for row in rows if row.lead is None]


def steps(
    generator: Generator,
    rows: Sequence[Row],
    hooks: Sequence[Hook] = (),
    memory: Memory | None = None,
) -> Iterator[list[Event]]:
    """Draw all rows to their end, in a memory of their own, and yield the events of every step.

    Args:
        rows: as `generator.begin` makes them.
        hooks: called after every step, before it is yielded.
        memory: an empty one to draw in; None: the generator's.
    """
    memory = generator.memory(rows) if memory is None else memory
    memory.admit(rows)
    try:
        while events := advance(generator, rows, memory, hooks):
            yield events
    finally:
        memory.release(rows)


def _reopen(rows: Sequence[Row], steps: Sequence[Step]) -> None:
    """Tokens that are redrawn now are unknown again, but for those held fixed."""
    for row, step in zip(rows, steps, strict=True):
        if step.again:
            row.tokens.known[0, row.free(step.draw).to(row.tokens.known.device)] = False
