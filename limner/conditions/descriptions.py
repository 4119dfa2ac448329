"""Descriptions: a caption, a style and a class, each of which may be left out."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from limner.conditions.classes import ClassCondition
from limner.conditions.words import WordCondition
from limner.core.errors import check
from limner.core.request import Request
from limner.core.row import Condition

STYLE_ABSENT, CLASS_ABSENT = 0.15, 0.5  # shares of examples that are told without, in training


class DescriptionCondition(nn.Module):
    """A class, a style and a caption in a row.

    The condition is {"label": int64 [B], "style": int64 [B], "words": int64 [B, ...]}; label and
    style count one further where nothing is said of them.

    Args:
        classes: number of classes.
        styles: number of styles.
        length: places of the caption; the prefix is two longer.
        width: of the sequence.
    """

    by: tuple[str, ...] = ("prompt", "style", "class")

    def __init__(self, classes: int, styles: int, length: int, width: int) -> None:
        super().__init__()
        self.classes = classes
        self.styles = styles
        self.length = length + 2
        self.label = ClassCondition(classes, width)
        self.style = ClassCondition(styles, width)
        self.caption = WordCondition(length, width)

    def ask(self, request: Request) -> Condition:
        """Return what is said, and nothing for what is not.

        Raises:
            ConfigError: a class or style that does not exist.
        """
        for style in request.styles or ():
            check(0 <= style < self.styles, "style", style, f"a number from 0 to {self.styles - 1}")
        return {
            **self.label.ask(Request(request.count, labels=request.labels)),
            "style": self.style.ask(Request(request.count, labels=request.styles))["label"],
            **self.caption.ask(Request(request.count, prompts=request.prompts)),
        }

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, length + 2, width]."""
        style = {"label": condition["style"]}
        parts = self.label.prefix(condition), self.style.prefix(style)
        return torch.cat([*parts, self.caption.prefix(condition)], 1)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, length + 2]: which prefix places hold something."""
        caption = self.caption.present(condition)
        return torch.cat([torch.ones(len(caption), 2, dtype=torch.bool), caption], 1)

    def null(self, condition: Condition) -> Condition:
        """Return that nothing is said of any row."""
        return {
            **self.label.null(condition),
            "style": self.style.null({"label": condition["style"]})["label"],
            **self.caption.null(condition),
        }

    def drop(self, condition: Condition, share: float, rng: torch.Generator) -> Condition:
        """Say nothing of a random share of the rows; leave out styles and classes of others too."""
        whole = torch.rand(len(condition["label"]), generator=rng) < share
        style = {"label": condition["style"]}
        some = {
            **self.label.drop(condition, CLASS_ABSENT, rng),
            "style": self.style.drop(style, STYLE_ABSENT, rng)["label"],
            "words": condition["words"],
        }
        null = self.null(condition)
        return {name: _where(whole, null[name], value) for name, value in some.items()}


class DescriptionVector(DescriptionCondition):
    """A description as one vector: the sum of all that is said, for networks that it modulates.

    Args:
        classes: number of classes.
        styles: number of styles.
        width: of the vector.
        words: of a caption that are read; longer ones are cut.
    """

    def __init__(self, classes: int, styles: int, width: int, words: int = 12) -> None:
        super().__init__(classes, styles, 1 + words, width)
        self.length = 1

    def prefix(self, condition: Condition) -> Tensor:
        """Return float [B, 1, width]."""
        return super().prefix(condition).sum(1, keepdim=True)

    def present(self, condition: Condition) -> Tensor:
        """Return bool [B, 1]: which prefix places hold something (all of them)."""
        return torch.ones(len(condition["label"]), 1, dtype=torch.bool)


def _where(rows: Tensor, there: Tensor, here: Tensor) -> Tensor:
    """Take some rows [B] from one tensor [B, ...], the others from another."""
    shape = (-1, *[1] * (here.ndim - 1))
    return torch.where(rows.to(here.device).view(shape), there, here)
