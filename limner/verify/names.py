"""Names with parameters: "gen_cfg{scale}_ids" names `gen_cfg2_ids`, `gen_cfg1.5_ids`, ..."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Any

_BRACE = re.compile(r"\{(\w+)\}")
_NUMBER = re.compile(r"-?\d+(\.\d+)?(e-?\d+)?")


def parse(pattern: str, name: str) -> dict[str, str] | None:
    """Return what the braces of a pattern stand for in a name, or None if it does not fit.

    A brace may hold underscores and dots; the earlier ones hold as little as possible.
    """
    match = _compiled(pattern).fullmatch(name)
    return None if match is None else match.groupdict()


def best(name: str, entries: Iterable[str]) -> str | None:
    """Return the entry that a name belongs to, or None.

    The name itself goes before patterns, the pattern with the most literal characters before
    others, and among equals the one with fewer braces.
    """
    fits = [entry for entry in entries if entry == name or parse(entry, name) is not None]
    return max(fits, key=lambda entry: (entry == name, *_literal(entry)), default=None)


def substitute(value: Any, parameters: dict[str, str]) -> Any:
    """Return a value with its braces filled in; a text that is one brace becomes a number.

    Braces that are no parameter stay as they are. Mappings and lists are filled in inside.
    """
    if isinstance(value, dict):
        return {key: substitute(inner, parameters) for key, inner in value.items()}
    if isinstance(value, list):
        return [substitute(inner, parameters) for inner in value]
    if not isinstance(value, str):
        return value
    whole = _BRACE.fullmatch(value)
    if whole and whole.group(1) in parameters:
        return number(parameters[whole.group(1)])
    return _BRACE.sub(lambda brace: parameters.get(brace.group(1), brace.group()), value)


def number(text: str) -> int | float | str:
    """Return a number written in a name, or the text if it is none.

    "2" and "1.5" are what they seem; "08" is 0.8, as names leave out the point.
    """
    if not _NUMBER.fullmatch(text):
        return text
    if text.isdigit():
        return float(f"0.{text[1:]}") if len(text) > 1 and text[0] == "0" else int(text)
    return int(text) if re.fullmatch(r"-\d+", text) else float(text)


def _literal(entry: str) -> tuple[int, int]:
    return len(_BRACE.sub("", entry)), -len(_BRACE.findall(entry))


@lru_cache(maxsize=4096)
def _compiled(pattern: str) -> re.Pattern[str]:
    regex, seen = "", set()
    for index, part in enumerate(_BRACE.split(pattern)):
        if index % 2 == 0:
            regex += re.escape(part)
        else:
            regex += f"(?P={part})" if part in seen else f"(?P<{part}>.+?)"
            seen.add(part)
    return re.compile(regex, re.DOTALL)
