"""Stretches: slots that follow each other and see alike, so that attention needs no mask.

Masks grow with the square of the slots. Where every row has the same slots, ordered by the step at
which they are known, those of one step see one run of slots, and attention takes them step by step.
"""

from __future__ import annotations

from dataclasses import dataclass

from limner.core.slots import ABSENT, Slots, Visible, up_to, within

MOST = 24  # stretches; a mask is quicker than more of them


@dataclass(frozen=True)
class Stretches:
    """What slots see, a stretch at a time.

    Args:
        bounds: of each stretch, in order: the first slot that it sees, its own first slot, and the
            slot after its last, up to which it sees.
        single: every slot is a stretch, and sees itself and all before it (causal attention).
    """

    bounds: tuple[tuple[int, int, int], ...]
    single: bool = False


def stretches_of(visible: Visible, slots: Slots) -> Stretches | None:
    """Return the stretches of a batch of slots that see each other; None where a mask is needed.

    Args:
        visible: `up_to` or `within`; others need a mask.
        slots: of a pass, [R, L].
    """
    if visible not in (up_to, within) or not slots.shared:
        return None
    since = slots.since[0]
    ordered = bool((since[1:] >= since[:-1]).all())
    if not ordered or int(since[0]) == ABSENT:
        return None
    changes = (since[1:] != since[:-1]).nonzero().squeeze(-1) + 1
    begins = [0, *changes.tolist()]
    if len(begins) == len(since) and visible is up_to:
        return Stretches((), single=True)
    if len(begins) > MOST:
        return None
    ends = [*begins[1:], len(since)]
    return Stretches(
        tuple(
            (0 if visible is up_to else begin, begin, end)
            for begin, end in zip(begins, ends, strict=True)
        )
    )
