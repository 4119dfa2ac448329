"""argparse whose mistakes are `LimnerError`s that name what is nearest to what was written."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Sequence
from typing import Any, NoReturn

import yaml

from limner.core.errors import LimnerError, unknown

Verbs = Any
"""What `Parser.add_subparsers` returns."""


class UsageError(LimnerError):
    """The command line itself is wrong."""


class Parser(argparse.ArgumentParser):
    """A parser without abbreviations.

    Args:
        fields: every option that is not known, as in `--optimizer.lr 3e-4`, is taken for a field;
            `arguments.fields` then holds {"optimizer.lr": value}.
        **options: of `argparse.ArgumentParser`.
    """

    def __init__(self, *, fields: bool = False, **options: Any) -> None:
        super().__init__(allow_abbrev=False, **options)
        self._fields = fields

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: Any = None
    ) -> tuple[Any, list[str]]:
        """Parse all arguments; nothing unknown is left over.

        Raises:
            UsageError: an argument is not known.
        """
        given = list(sys.argv[1:] if args is None else args)
        if self._fields:
            namespace = namespace or argparse.Namespace(fields={})
            self._add_fields(given)
        parsed, rest = super().parse_known_args(given, namespace)
        for word in rest:
            if word.startswith("-"):
                name = word.partition("=")[0]
                raise unknown(f"option of `{self.prog}`", name, self._flags(), UsageError)
        if rest:
            self.error(f"{rest[0]!r} is one argument too many")
        return parsed, []

    def error(self, message: str) -> NoReturn:
        """Raise what argparse would print."""
        raise UsageError(f"{message} (see `{self.prog} --help`)")

    def _check_value(self, action: argparse.Action, value: Any) -> None:
        if action.choices is not None and value not in action.choices:
            raise unknown(f"verb of `{self.prog}`", str(value), action.choices, UsageError)

    def _flags(self) -> list[str]:
        return [flag for flag in self._option_string_actions if flag.startswith("--")]

    def _add_fields(self, given: Iterable[str]) -> None:
        for word in given:
            flag = word.partition("=")[0]
            if flag.startswith("--") and len(flag) > 2 and flag not in self._flags():
                self.add_argument(flag, action=_Field, dest="fields", help=argparse.SUPPRESS)


class _Field(argparse.Action):
    """Puts a value, written as in YAML, into the mapping of fields."""

    def __call__(
        self, parser: Any, namespace: Any, values: Any, option_string: str | None = None
    ) -> None:
        assert option_string is not None
        name = option_string.removeprefix("--").replace("-", "_")
        namespace.fields[name] = yaml_value(name, values)


def yaml_value(name: str, text: str) -> Any:
    """Return the value of a field that is written as in YAML.

    Raises:
        UsageError: it is not YAML.
    """
    try:
        return yaml.safe_load(text)
    except yaml.YAMLError:
        raise UsageError(
            f"{name}={text!r} is not accepted: {name} must be written as in YAML"
        ) from None


def assignment(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE, the value as in YAML."""
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise UsageError(f"{text!r} is not accepted: write NAME=VALUE")
    return name, yaml_value(name, value)


def one_of(kind: str, names: Sequence[str]) -> Callable[[str], str]:
    """Return a reader of one of some names."""

    def read(text: str) -> str:
        if text not in names:
            raise unknown(kind, text, names, UsageError)
        return text

    return read


def picture_size(text: str) -> tuple[int, int]:
    """Read HxW, or one number for both, in pixels."""
    sides = text.lower().split("x")
    if not 1 <= len(sides) <= 2 or not all(side.isdecimal() and int(side) for side in sides):
        raise UsageError(f"size={text!r} is not accepted: write HEIGHTxWIDTH, as in 256x384")
    return int(sides[0]), int(sides[-1])


def add_plugin(parser: argparse.ArgumentParser) -> None:
    """Let a verb that builds things take files of the user's own."""
    parser.add_argument(
        "--plugin",
        action="append",
        default=[],
        metavar="FILE",
        help="Python file that registers models or tokenizers of your own (may be repeated)",
    )


DTYPES = ("float32", "bfloat16", "float16", "float64")


def add_dtype(parser: argparse.ArgumentParser, help: str) -> None:
    """Let a verb take the type of numbers that weights are held in."""
    parser.add_argument("--dtype", type=one_of("dtype", DTYPES), metavar="TYPE", help=help)
