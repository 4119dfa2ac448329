"""How far a value is from its reference, and whether that is near enough."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

DEFAULT = 1e-4
"""Tolerance of float outputs: largest difference over the reference's largest magnitude."""

SAMPLING_RUN = 1e-3
"""Tolerance of whole sampling runs with given noise."""

REMOVED = -1e30
"""Entries at or below stand for minus infinity, as some published code writes it."""

ALL_ZERO = 1e-6
"""Largest magnitude allowed where the reference is zero everywhere."""

TIE = 1e-4
"""Ids may differ where their logits are closer than this share of the place's range."""


@dataclass(frozen=True)
class Outcome:
    """What a comparison found.

    Args:
        ok: near enough.
        error: relative for floats; for whole numbers the count of entries that differ.
        note: what is wrong, or worth knowing.
    """

    ok: bool
    error: float
    note: str = ""


def compare(
    reference: Tensor,
    value: Tensor,
    tolerance: float | None = None,
    own: bool = False,
    logits: Tensor | None = None,
) -> Outcome:
    """Compare a value with its reference.

    Args:
        reference: float: compared by relative error; whole numbers and bools: exactly.
        value: of the same shape.
        tolerance: of the relative error; None: `DEFAULT`.
        own: the tolerance is the case's own: whole numbers are then held to it too, and the
            reference's magnitude includes finite entries at or below `REMOVED`.
        logits: float [..., V] for ids [...]: where two ids' logits are a tie, either is right.
    """
    value = value.detach().to("cpu")
    if value.shape != reference.shape:
        return Outcome(False, float("inf"), f"shape {list(value.shape)} instead")
    floating = reference.is_floating_point() or reference.is_complex()
    if floating or (own and tolerance is not None):
        return _floats(reference, value, DEFAULT if tolerance is None else tolerance, own)
    if value.is_floating_point() or value.is_complex():
        return Outcome(False, float("inf"), f"{value.dtype} instead of {reference.dtype}")
    return _exact(reference, value, logits)


def _floats(reference: Tensor, value: Tensor, tolerance: float, own: bool) -> Outcome:
    wide = torch.complex128 if reference.is_complex() or value.is_complex() else torch.float64
    reference, value = reference.to(wide), value.to(wide)
    if bool(reference.isnan().any() | value.isnan().any()):
        return Outcome(False, float("nan"), "NaN")
    removed = torch.zeros_like(reference, dtype=torch.bool)
    if wide is torch.float64:
        removed = _removed(reference)
        if not bool((removed == _removed(value)).all()):
            return Outcome(False, float("inf"), "entries are removed (-inf) at other places")
    if bool((value.isinf() & ~removed).any() | (reference.isinf() & ~removed).any()):
        same = bool((value == reference)[reference.isinf() | value.isinf()].all())
        if not same:
            return Outcome(False, float("inf"), "infinite")
        removed = removed | reference.isinf()
    difference = (value - reference)[~removed].abs()
    if difference.numel() == 0:
        return Outcome(True, 0.0)
    counted = reference[~reference.isinf()] if own else reference[~removed]
    largest, most = float(counted.abs().max()), float(difference.max())
    if largest == 0.0:
        return Outcome(most <= ALL_ZERO, most, "reference is all zeros, absolute")
    return Outcome(most / largest <= tolerance, most / largest)


def _removed(values: Tensor) -> Tensor:
    return values <= REMOVED


def _exact(reference: Tensor, value: Tensor, logits: Tensor | None) -> Outcome:
    differ = reference != value
    count = int(differ.sum())
    if count == 0:
        return Outcome(True, 0.0)
    note = f"{count} of {differ.numel()} differ"
    if logits is None or logits.shape[:-1] != reference.shape:
        return Outcome(False, float(count), note)
    table = logits[differ].double()
    chosen = torch.stack([reference[differ], value[differ]], dim=-1).long()
    if int(chosen.min()) < 0 or int(chosen.max()) >= table.shape[-1]:
        return Outcome(False, float(count), note)
    gap = table.gather(-1, chosen).diff(dim=-1).abs().squeeze(-1)
    finite = table.masked_fill(_removed(table), float("inf")).amin(-1)
    if bool((gap <= TIE * (table.amax(-1) - finite)).all()):
        return Outcome(True, float(count), f"{note}, all of them ties of the case's own logits")
    return Outcome(False, float(count), note)
