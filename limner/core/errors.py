"""Errors that limner raises on bad input: one clear line, no stack trace at the command line."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from importlib import import_module
from typing import Any


class LimnerError(Exception):
    """Any mistake that the caller can mend; its text names what is wrong and what is accepted."""


class ConfigError(LimnerError):
    """A field of a configuration has a name or a value that is not accepted."""


class DataError(LimnerError):
    """Pictures, folders or files given as data cannot be used."""


class CheckpointError(LimnerError):
    """A checkpoint is missing, broken, unsafe or does not fit its configuration."""


class MissingExtra(LimnerError):
    """An optional package is needed for what was asked."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(
            f"{purpose} needs the package {package!r}: "
            f"install it with `pip install 'limner[{extra}]'`"
        )


def load_extra(package: str, extra: str, purpose: str) -> Any:
    """Return an optional package.

    Args:
        package: its name.
        extra: of limner, that installs it.
        purpose: what needs it, as messages begin.

    Raises:
        MissingExtra: it is not installed.
    """
    try:
        return import_module(package)
    except ImportError:
        raise MissingExtra(package, extra, purpose) from None


def unknown(
    kind: str, name: str, known: Iterable[str], error: type[LimnerError] = ConfigError
) -> LimnerError:
    """Build the error for a name that is not in `known`, with the nearest one.

    Args:
        kind: what the name stands for, as a user would say it ("model", "field of LlamaGen").
        name: what was given.
        known: every name that is accepted.
        error: class of the error.

    Returns:
        The error, to be raised by the caller.
    """
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    shown = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return error(f"unknown {kind} {name!r}: {hint}known: {shown or 'none'}")


def check(condition: bool, field: str, value: object, accepted: str) -> None:
    """Raise `ConfigError` naming the field, its value and what is accepted, unless `condition`."""
    if not condition:
        raise ConfigError(f"{field}={value!r} is not accepted: {field} must be {accepted}")
