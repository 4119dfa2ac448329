"""The contract of guidance schedules; the schedules themselves live in `limner.heads.guidance`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

if TYPE_CHECKING:
    from limner.core.order import Step
    from limner.core.row import Row


class Guidance(Protocol):
    """How far a lead row's outputs are pushed away from its null row's."""

    @property
    def active(self) -> bool:
        """False when no step is ever guided: no null row is then run."""
        ...

    def scale(self, row: Row, step: Step) -> float | None:
        """Return the scale s of null + s (lead - null) at this step, or None for no guidance."""
        ...


class Unguided:
    """No guidance at any step."""

    active = False

    def scale(self, row: Row, step: Step) -> float | None:
        """Return None."""
        return None


def mix(lead: Tensor, null: Tensor, scales: Tensor) -> Tensor:
    """Return null + s (lead - null), and `lead` itself where the scale is NaN (guidance off).

    Args:
        lead: float [R, n, ...].
        null: float [R, n, ...].
        scales: float [R].
    """
    shape = (-1,) + (1,) * (lead.dim() - 1)
    scale = scales.to(lead.device, lead.dtype).reshape(shape)
    mixed = torch.addcmul(null, scale, lead - null)
    return mixed.where(~scale.isnan(), lead) if scales.isnan().any() else mixed
