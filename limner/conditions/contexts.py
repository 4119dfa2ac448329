"""Contexts that are learned vectors, as AR-Diffusion (arXiv:2503.07418) has in place of a text.

Source: `BaseModel` in src/ardiff/base.py of iva-mzsun/AR-Diffusion.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.core.errors import ConfigError, check
from limner.core.request import Request
from limner.core.row import Condition


class ContextCondition(nn.Module):
    """Learned contexts of clips, one a class or one for all: {"label": int64 [B]}.

    Args:
        classes: number of classes; label 0 is the null class too. 0: label 0 is the one context,
            and 1, the null condition, stands for zeros.
        length: vectors of a context.
        width: of each.
    """

    def __init__(self, classes: int, length: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.by: tuple[str, ...] = ("class",) if classes else ()
        self.length = length
        # the released table has a row more than classes
        size = (classes + 1, length, width)
        # the released optimizer leaves it as it begins
        self.table = nn.Parameter(torch.randn(size) * 0.1, requires_grad=False)

    def ask(self, request: Request) -> Condition:
        """Return the labels asked for, or 0.

        Raises:
            ConfigError: prompts are given, or a class that there is not.
        """
        if request.prompts is not None:
            raise ConfigError("prompts are not accepted: this model is asked by class or nothing")
        labels = request.labels
        if labels is None:
            return {"label": torch.zeros(request.count, dtype=torch.int64)}
        if not self.classes:
            raise ConfigError("classes are not accepted: this model has none")
        for label in labels:
            check(0 <= label < self.classes, "class", label, f"from 0 to {self.classes - 1}")
        return {"label": torch.tensor(list(labels), dtype=torch.int64)}

    def vectors(self, condition: Condition) -> Tensor:
        """Return the contexts, float [B, length, width]."""
        label = condition["label"].to(self.table.device)
        if self.classes:
            return self.table[label]
        return self.table * (label == 0).to(self.table)[:, None, None]

    def null(self, condition: Condition) -> Condition:
        """Return the null condition for every row."""
        return {"label": torch.full_like(condition["label"], 0 if self.classes else 1)}

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Replace a random share of the conditions by the null condition."""
        label = condition["label"]
        dropped = (torch.rand(len(label), generator=rng) < share).to(label.device)
        return {"label": torch.where(dropped, self.null(condition)["label"], label)}
