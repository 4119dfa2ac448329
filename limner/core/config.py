"""Configurations: small frozen dataclasses, read from plain mappings with every field checked."""

from __future__ import annotations

import dataclasses
import types
import typing
from collections.abc import Mapping
from functools import cache
from typing import Any, TypeVar

from limner.core.errors import ConfigError, unknown

C = TypeVar("C")


def from_dict(cls: type[C], values: Mapping[str, Any], where: str = "") -> C:
    """Build a dataclass from a mapping, checking names and types.

    Args:
        cls: a dataclass; nested dataclasses, tuples, Optional and Literal fields are read too.
        values: field name -> value, as from YAML or JSON.
        where: path of the mapping in its file, for messages.

    Raises:
        ConfigError: an unknown or missing field, or a value of the wrong type.
    """
    if not isinstance(values, Mapping):
        raise ConfigError(f"{where or cls.__name__}={values!r} is not accepted: must be a mapping")
    hints = _hints(cls)  # type: ignore[arg-type]
    fields = {field.name: field for field in dataclasses.fields(cls) if field.init}  # type: ignore[arg-type]
    for name in values:
        if name not in fields:
            raise unknown(f"field of {where or cls.__name__}", str(name), fields)
    for name, field in fields.items():
        required = (
            field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING
        )
        if required and name not in values:
            raise ConfigError(f"{_join(where, name)} is missing: {cls.__name__} needs it")
    read = {name: _coerce(hints[name], value, _join(where, name)) for name, value in values.items()}
    try:
        return cls(**read)
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}" if where else str(error)) from None


def to_dict(config: Any) -> dict[str, Any]:
    """Return a dataclass as a mapping of plain values (tuples become lists)."""
    return {
        field.name: _plain(getattr(config, field.name))
        for field in dataclasses.fields(config)
        if field.init
    }


def override(values: dict[str, Any], path: str, value: Any) -> None:
    """Set `values["a"]["b"] = value` for path "a.b", creating mappings on the way."""
    *parents, last = path.split(".")
    for parent in parents:
        inner = values.setdefault(parent, {})
        if not isinstance(inner, dict):
            raise ConfigError(f"{path} is not accepted: {parent} has no fields")
        values = inner
    values[last] = value


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _join(where: str, name: str) -> str:
    return f"{where}.{name}" if where else name


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return to_dict(value)
    if isinstance(value, (tuple, list)):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {key: _plain(item) for key, item in value.items()}
    return value


def _coerce(hint: Any, value: Any, where: str) -> Any:
    origin = typing.get_origin(hint)
    if hint is Any:
        return value
    if origin in (typing.Union, types.UnionType):
        return _coerce_union(typing.get_args(hint), value, where)
    if origin is typing.Literal:
        return _coerce_literal(typing.get_args(hint), value, where)
    if origin is tuple:
        return _coerce_tuple(typing.get_args(hint), value, where)
    if origin is dict:
        if not isinstance(value, Mapping):
            raise _wrong(where, value, "a mapping")
        return dict(value)
    if dataclasses.is_dataclass(hint):
        return value if isinstance(value, hint) else from_dict(hint, value, where)  # type: ignore[arg-type]
    return _coerce_scalar(hint, value, where)


def _coerce_union(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value is None and type(None) in choices:
        return None
    errors = []
    for choice in _of_kind(choices, value, where):
        try:
            return _coerce(choice, value, where)
        except ConfigError as error:
            errors.append(error)
    raise errors[0]


def _of_kind(choices: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    """Return what a value may be: where it names its `kind`, the dataclass of that kind alone."""
    choices = tuple(choice for choice in choices if choice is not type(None))
    if not isinstance(value, Mapping) or "kind" not in value:
        return choices
    kinds = {
        kind: choice
        for choice in choices
        if isinstance(choice, type) and dataclasses.is_dataclass(choice)
        for kind in typing.get_args(_hints(choice).get("kind"))
    }
    if not kinds:
        return choices
    if value["kind"] not in kinds:
        raise unknown(f"value of {where}.kind", str(value["kind"]), kinds)
    return (kinds[value["kind"]],)


def _coerce_literal(choices: tuple[Any, ...], value: Any, where: str) -> Any:
    if value in choices:
        return value
    if isinstance(value, str):
        raise unknown(f"value of {where}", value, [str(choice) for choice in choices])
    raise _wrong(where, value, f"one of {', '.join(map(repr, choices))}")


def _coerce_tuple(parts: tuple[Any, ...], value: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(value, (list, tuple)):
        raise _wrong(where, value, "a list")
    if len(parts) == 2 and parts[1] is Ellipsis:
        return tuple(_coerce(parts[0], item, f"{where}[{i}]") for i, item in enumerate(value))
    if len(parts) != len(value):
        raise _wrong(where, value, f"a list of {len(parts)} values")
    return tuple(
        _coerce(part, item, f"{where}[{i}]")
        for i, (part, item) in enumerate(zip(parts, value, strict=True))
    )


def _coerce_scalar(hint: Any, value: Any, where: str) -> Any:
    if hint is float and isinstance(value, (int, float)) and not isinstance(value, bool):
        return float(value)
    if hint is float and isinstance(value, str):
        # YAML reads 1e-4 (no dot) as a string
        try:
            return float(value)
        except ValueError:
            raise _wrong(where, value, "a number") from None
    if hint is int and isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, hint) and not (hint is int and isinstance(value, bool)):
        return value
    names = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
    raise _wrong(where, value, names.get(hint, getattr(hint, "__name__", str(hint))))


def _wrong(where: str, value: Any, accepted: str) -> ConfigError:
    return ConfigError(f"{where}={value!r} is not accepted: {where} must be {accepted}")
