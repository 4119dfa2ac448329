"""Key tables: the names of official tensors and ours, both ways, as rules and nothing else.

A name may hold {braces}: `{parameter}` stands for "weight" or "bias", `{rest}` for anything (of
use where whole parts are ignored), any other for a number.

    TABLE = KeyTable([
        rename("tok_embeddings.weight", "tokens.weight"),
        rename("layers.{i}.attention.wo.weight", "blocks.{i}.attention.out.weight"),
        split("attn.qkv.weight", ("query.weight", "key.weight", "value.weight")),
    ], ignored=["freqs_cis"])
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Protocol

import torch
from torch import Tensor

from limner.core.errors import CheckpointError
from limner.hub.build import shown

_BRACE = re.compile(r"\{(\w+)\}")
_WORDS = {"parameter": "weight|bias", "rest": ".+"}


class Change(Protocol):
    """What happens to the values of a rule's tensors; each way undoes the other."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return our tensors of the official ones."""
        ...

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the official tensors of ours."""
        ...


class Same:
    """Values stay as they are."""

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tensors."""
        return tensors

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Return the tensors."""
        return tensors


@dataclass(frozen=True)
class Split:
    """One official tensor is several equal parts of ours.

    Args:
        parts: how many.
        dim: along which they lie.
    """

    parts: int
    dim: int = 0

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Cut the one into its parts."""
        return tensors[0].chunk(self.parts, self.dim)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Join the parts."""
        return (torch.cat(list(tensors), self.dim),)


@dataclass(frozen=True)
class Join:
    """Several official tensors are parts of one of ours.

    Args:
        parts: how many.
        dim: along which they lie.
    """

    parts: int
    dim: int = 0

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Join the parts."""
        return Split(self.parts, self.dim).to_official(tensors)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Cut the one into its parts."""
        return Split(self.parts, self.dim).to_ours(tensors)


@dataclass(frozen=True)
class Reorder:
    """Equal chunks of a tensor come in another order (AdaLN's shifts, scales and gates).

    Args:
        order: our chunk k is the official chunk `order[k]`.
        dim: along which the chunks lie.
    """

    order: tuple[int, ...]
    dim: int = 0

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the chunks into our order."""
        return tuple(self._ordered(tensor, self.order) for tensor in tensors)

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the chunks into the official order."""
        back = tuple(self.order.index(k) for k in range(len(self.order)))
        return tuple(self._ordered(tensor, back) for tensor in tensors)

    def _ordered(self, tensor: Tensor, order: tuple[int, ...]) -> Tensor:
        chunks = tensor.chunk(len(order), self.dim)
        return torch.cat([chunks[k] for k in order], self.dim)


@dataclass(frozen=True)
class Squeeze:
    """Dimensions of size 1 that only the official tensor has.

    Args:
        dims: of the official tensor, ascending.
    """

    dims: tuple[int, ...]

    def to_ours(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Leave the dimensions out."""
        return [tensor.squeeze(self.dims) for tensor in tensors]

    def to_official(self, tensors: Sequence[Tensor]) -> Sequence[Tensor]:
        """Put the dimensions back."""
        restored = list(tensors)
        for dim in self.dims:
            restored = [tensor.unsqueeze(dim) for tensor in restored]
        return restored


@dataclass(frozen=True)
class Rule:
    """Official tensors, ours, and what happens to their values in between.

    Args:
        official: names or patterns.
        ours: names or patterns with the same braces.
        change: of the values.
    """

    official: tuple[str, ...]
    ours: tuple[str, ...]
    change: Change

    def __post_init__(self) -> None:
        braces = {frozenset(_BRACE.findall(name)) for name in self.official + self.ours}
        if len(braces) != 1:
            raise ValueError(f"the braces of {self.official} and {self.ours} differ")

    def under(self, official: str, ours: str) -> Rule:
        """Return the rule for a part that stands under these prefixes."""
        return Rule(
            tuple(f"{official}.{name}" for name in self.official),
            tuple(f"{ours}.{name}" for name in self.ours),
            self.change,
        )


def rename(official: str, ours: str, change: Change | None = None) -> Rule:
    """Return the rule of one tensor."""
    return Rule((official,), (ours,), change or Same())


def split(official: str, ours: tuple[str, ...], dim: int = 0) -> Rule:
    """Return the rule of one official tensor that is several of ours."""
    return Rule((official,), ours, Split(len(ours), dim))


def join(official: tuple[str, ...], ours: str, dim: int = 0) -> Rule:
    """Return the rule of several official tensors that are one of ours."""
    return Rule(official, (ours,), Join(len(official), dim))


def nested(official: str, ours: str, rules: Iterable[Rule]) -> list[Rule]:
    """Return the rules of a part that is used under several prefixes."""
    return [rule.under(official, ours) for rule in rules]


class KeyTable:
    """All tensors of one official state dict.

    Args:
        rules: every tensor of either side fits exactly one.
        ignored: official names or patterns without a counterpart (caches, statistics).
    """

    def __init__(self, rules: Iterable[Rule], ignored: Iterable[str] = ()) -> None:
        self.rules = tuple(rules)
        self.ignored = tuple(_compiled(pattern) for pattern in ignored)

    def to_ours(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return our tensors; every official tensor is used exactly once, or ignored.

        Raises:
            CheckpointError: a tensor fits no rule, or only part of a group is there.
        """
        kept = {
            name: tensor
            for name, tensor in state.items()
            if not any(pattern.fullmatch(name) for pattern in self.ignored)
        }
        result: dict[str, Tensor] = {}
        for rule, braces, tensors in _grouped(self._by_official, kept, "official"):
            changed = rule.change.to_ours(tensors)
            result.update(zip((name.format(**braces) for name in rule.ours), changed, strict=True))
        return result

    def to_official(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Return the official tensors of ours, without the ignored ones.

        Raises:
            CheckpointError: a tensor fits no rule, or only part of a group is there.
        """
        result: dict[str, Tensor] = {}
        for rule, braces, tensors in _grouped(self._by_ours, state, "our"):
            names = (name.format(**braces) for name in rule.official)
            result.update(zip(names, rule.change.to_official(tensors), strict=True))
        return result

    @cached_property
    def _by_official(self) -> list[_Pattern]:
        return [_Pattern(rule, rule.official) for rule in self.rules]

    @cached_property
    def _by_ours(self) -> list[_Pattern]:
        return [_Pattern(rule, rule.ours) for rule in self.rules]


class _Pattern:
    """One side of a rule, ready to be matched."""

    def __init__(self, rule: Rule, names: tuple[str, ...]) -> None:
        self.rule = rule
        self.names = names
        self.compiled = [_compiled(name) for name in names]


_Group = tuple[Rule, dict[str, str], list[Tensor]]


def _grouped(patterns: list[_Pattern], state: Mapping[str, Tensor], side: str) -> Iterator[_Group]:
    """Yield the tensors that belong together by one rule, in the rule's order."""
    groups: dict[tuple[int, tuple[tuple[str, str], ...]], dict[int, Tensor]] = {}
    strangers = []
    for name, tensor in state.items():
        fits = [
            (number, tuple(sorted(match.groupdict().items())), place)
            for number, pattern in enumerate(patterns)
            for place, compiled in enumerate(pattern.compiled)
            if (match := compiled.fullmatch(name))
        ]
        if not fits:
            strangers.append(name)
            continue
        if len(fits) > 1:
            raise ValueError(f"{len(fits)} rules of the key table fit {name}")
        number, braces, place = fits[0]
        groups.setdefault((number, braces), {})[place] = tensor
    if strangers:
        raise CheckpointError(
            f"{side} tensors that the key table does not know: {shown(strangers)}"
        )
    for (number, braces), tensors in groups.items():
        pattern, values = patterns[number], dict(braces)
        absent = [name.format(**values) for k, name in enumerate(pattern.names) if k not in tensors]
        if absent:
            raise CheckpointError(f"{side} tensors are missing: {shown(absent)}")
        yield pattern.rule, values, [tensors[k] for k in range(len(tensors))]


def _compiled(name: str) -> re.Pattern[str]:
    parts = _BRACE.split(name)
    seen: set[str] = set()
    regex = ""
    for index, part in enumerate(parts):
        if index % 2 == 0:
            regex += re.escape(part)
        elif part in seen:
            regex += f"(?P={part})"
        else:
            seen.add(part)
            regex += f"(?P<{part}>{_WORDS.get(part, '[0-9]+')})"
    return re.compile(regex)
