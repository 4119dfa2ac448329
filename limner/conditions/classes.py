"""Class labels as a condition."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError, check
from limner.core.request import Request
from limner.core.row import Condition


def ask_labels(request: Request, classes: int) -> Condition:
    """Return {"label": int64 [B]}: the classes asked for, or `classes` (null) where none are.

    Raises:
        ConfigError: prompts are given, or a class number does not exist.
    """
    if request.prompts is not None:
        raise ConfigError("prompts are not accepted: this model is asked by class")
    if request.labels is None:
        return {"label": torch.full((request.count,), classes)}
    for label in request.labels:
        check(0 <= label < classes, "class", label, f"a number from 0 to {classes - 1}")
    return {"label": torch.tensor(list(request.labels), dtype=torch.int64)}


class ClassCondition(nn.Module):
    """A table of class vectors; its last row is the null class.

    The condition is {"label": int64 [B]}, 0 .. classes - 1, or `classes` for the null class.

    Args:
        classes: number of classes, the null class not counted.
        width: of the vectors.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.table = nn.Embedding(classes + 1, width)

    by: tuple[str, ...] = ("class",)
    length = 1

    def ask(self, request: Request) -> Condition:
        """Return the labels asked for; the null class where none is."""
        return ask_labels(request, self.classes)

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, 1, width]."""
        label = condition["label"].to(self.table.weight.device)
        vectors: Tensor = self.table(label)
        return vectors.unsqueeze(1)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, 1]: which prefix places hold something (all of them)."""
        return torch.ones(len(condition["label"]), 1, dtype=torch.bool)

    def null(self, condition: Condition) -> Condition:
        """Return the null class for every row."""
        return {"label": torch.full_like(condition["label"], self.classes)}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Replace a random share of the labels by the null class."""
        label = condition["label"]
        dropped = torch.rand(len(label), generator=rng) < share
        return {"label": torch.where(dropped.to(label.device), self.classes, label)}
