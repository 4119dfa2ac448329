"""Nested values laid over each other: recipes over what they extend, overrides over recipes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Fields of which one replaces the other, so that giving one never asks for the other's removal.
ALTERNATIVES = ({"steps", "seconds", "flops"}, {"family", "variant"})
# Weights say what a part is, unless that is said beside them.
SETTLED = {"family", "variant", "config"}
# Fields that say what the others beside them mean.
NAMING = ("kind", "family")


def merge(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return `base` with `changes` laid over it; mappings are merged, all else is replaced.

    A mapping of another kind or family replaces the one that is there: its fields mean something
    else. So do weights that are named alone: they bring their own.
    """
    merged = dict(base)
    for names in ALTERNATIVES:
        if any(changes.get(name) is not None for name in names):
            merged = {name: value for name, value in merged.items() if name not in names}
    if changes.get("weights") is not None and not SETTLED.intersection(changes) - {"config"}:
        merged = {name: value for name, value in merged.items() if name not in SETTLED}
    for name, value in changes.items():
        inner = merged.get(name)
        if isinstance(inner, Mapping) and isinstance(value, Mapping) and _same_kind(inner, value):
            value = merge(inner, value)
        merged[name] = value
    return merged


def _same_kind(base: Mapping[str, Any], changes: Mapping[str, Any]) -> bool:
    return all(base.get(n) in (None, changes[n]) for n in NAMING if changes.get(n) is not None)
