"""What can be built by name, with parameter counts beside the published ones."""

from __future__ import annotations

import re
from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from limner.core.registry import MODELS, TOKENIZERS, Registry
from limner.hub.build import parameter_count, weightless

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "B": 10**9}


@dataclass(frozen=True)
class Row:
    """One published variant.

    Args:
        name: by which it is built.
        family: that it belongs to.
        parameters: counted from the module itself.
        published: as published ("111M", "1.4B"), or None.
        matches: whether both agree to the published digits; None where nothing is published.
    """

    name: str
    family: str
    parameters: int
    published: str | None
    matches: bool | None


def list_models() -> list[Row]:
    """Return all published models, by name."""
    return _rows(MODELS)


def list_tokenizers() -> list[Row]:
    """Return all published tokenizers, by name."""
    return _rows(TOKENIZERS)


def as_json(rows: list[Row]) -> list[dict[str, Any]]:
    """Return rows as plain values."""
    return [asdict(row) for row in rows]


def agrees(parameters: int, published: str | int) -> bool:
    """Return whether a count, rounded to the published digits, is the published one."""
    if isinstance(published, int):
        return parameters == published
    number = re.fullmatch(r"(\d+)(?:\.(\d+))?([KMB]?)", published)
    if number is None:
        raise ValueError(f"a published count is written as '111M' or '1.4B', not {published!r}")
    whole, decimals, unit = number.groups()
    rounded = f"{parameters / _UNITS[unit]:.{len(decimals or '')}f}"
    return rounded == f"{whole}.{decimals}" if decimals else rounded == whole


def _rows(registry: Registry) -> list[Row]:
    rows = []
    for variant in registry.variants():
        count = _count(registry.kind, variant.name)
        published = variant.published
        rows.append(
            Row(
                variant.name,
                variant.family,
                count,
                None if published is None else str(published),
                None if published is None else agrees(count, published),
            )
        )
    return rows


@cache
def _count(kind: str, name: str) -> int:
    registry = {registry.kind: registry for registry in (MODELS, TOKENIZERS)}[kind]
    with weightless():
        return parameter_count(registry.create(name))
