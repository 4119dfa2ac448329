"""Results side by side, and where they cannot be compared."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from limner.core.errors import DataError, check
from limner.data.images import to_float
from limner.evaluation.page import Page, in_figures, settings_of, span_of
from limner.evaluation.pictures import in_words
from limner.evaluation.result import (
    ALBUM,
    Number,
    Protocol,
    Result,
    find_result,
    read_result,
)
from limner.metrics.references import read_reference

EACH = 12  # pictures shown of each result


@dataclass(frozen=True, eq=False)
class Entry:
    """A result to be compared.

    Args:
        name: by which it is told from the others.
        result: what was measured.
        pictures: uint8 [n, 3, H, W], some that were drawn; None: there are none beside it.
    """

    name: str
    result: Result
    pictures: Tensor | None


def read_entries(paths: Sequence[str | Path]) -> list[Entry]:
    """Read results, and give each a name.

    Raises:
        ConfigError: fewer than two.
        DataError: one is missing or broken, or is given twice.
    """
    check(len(paths) >= 2, "results", list(map(str, paths)), "two or more")
    files = [find_result(path) for path in paths]
    if len(set(files)) < len(files):
        raise DataError("the same result is given twice")
    return [read_entry(name, file) for name, file in zip(_names(files), files)]


def read_entry(name: str, file: Path) -> Entry:
    """Read a result, and some of the pictures beside it.

    Raises:
        DataError: it is missing or broken.
    """
    return Entry(name, read_result(file), _pictures_beside(file))


def differences(first: Protocol, second: Protocol) -> list[str]:
    """Return why numbers of two results cannot be compared; nothing where they can."""
    a, b = _identity(first), _identity(second)
    return [
        f"other {what} ({b[what][1]}, not {a[what][1]})" for what in a if a[what][0] != b[what][0]
    ]


def warnings_of(entries: Sequence[Entry]) -> list[str]:
    """Return a line for each result, or number of one, that does not compare with the first."""
    first, *others = entries
    lines = []
    for entry in others:
        apart = differences(first.result.protocol, entry.result.protocol)
        # other sets have other counts too: no need to say it of every number
        if not apart:
            shared = first.result.numbers.keys() & entry.result.numbers.keys()
            apart = [
                f"other settings of {number.title} ({number.settings}, not {known.settings})"
                for name in sorted(shared)
                for known, number in [(first.result.numbers[name], entry.result.numbers[name])]
                if number.settings != known.settings
            ]
        if apart:
            lines.append(f"{entry.name} does not compare with {first.name}: {'; '.join(apart)}")
    return lines


def table(entries: Sequence[Entry]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of all numbers with their intervals, a column for each result.

    Where all results compare and one is better than all others by more than the intervals, it is
    marked.
    """
    comparable = not warnings_of(entries)
    rows = []
    for name in _numbers(entries):
        found = [entry.result.numbers.get(name) for entry in entries]
        cells = ["-" if number is None else in_figures(number) for number in found]
        winner = best(found) if comparable else None
        if winner is not None:
            cells[winner] += " best"
        rows.append([next(n.title for n in found if n is not None), *cells])
    return ["", *(entry.name for entry in entries)], rows


def best(numbers: Sequence[Number | None]) -> int | None:
    """Return which number is better than all others by more than the intervals; None: none is."""
    known = [number for number in numbers if number is not None]
    if len(known) < len(numbers) or known[0].better == "as real":
        return None
    sign = 1 if known[0].better == "higher" else -1
    ranked = sorted(range(len(known)), key=lambda index: -sign * known[index].value)
    first, *others = [known[index] for index in ranked]
    if first.better == "higher":
        apart = all(other.high < first.low for other in others)
    else:
        apart = all(other.low > first.high for other in others)
    return ranked[0] if apart else None


def write_comparison(entries: Sequence[Entry], path: str | Path) -> None:
    """Write a page that shows results side by side.

    Raises:
        DataError: it cannot be written.
    """
    page = Page("Comparison", ", ".join(entry.name for entry in entries))
    page.section("Numbers", 'With their intervals; "best" where no other\'s reaches it.')
    for line in warnings_of(entries):
        page.text(f"Warning: {line}.")
    page.table(*table(entries))
    show_intervals(page, entries)
    page.section("By the number of drawn pictures")
    courses = {entry.name: entry.result.course for entry in entries}
    title = entries[0].result.numbers["frechet_distance"].title
    page.plot(courses, "drawn pictures", title)
    page.section("Pictures", "Evenly spread over the drawn ones of each.")
    show_pictures(page, entries)
    page.section("How they were measured")
    show_protocols(page, entries)
    page.save(path)


def show_intervals(page: Page, entries: Sequence[Entry]) -> None:
    """Add a chart for every number, with the interval of each result."""
    for name in _numbers(entries):
        found = {e.name: e.result.numbers[name] for e in entries if name in e.result.numbers}
        page.intervals(
            [span_of(of, number) for of, number in found.items()],
            next(number.title for number in found.values()),
        )


def show_pictures(page: Page, entries: Sequence[Entry]) -> None:
    """Add a row of pictures for each result that has some."""
    for entry in entries:
        if entry.pictures is not None:
            page.text(entry.name)
            page.pictures(to_float(entry.pictures), side=72)


def show_protocols(page: Page, entries: Sequence[Entry]) -> None:
    """Add a table of what each result was measured with, and the commands."""
    settings = [settings_of(entry.result.protocol) for entry in entries]
    names = dict.fromkeys(name for each in settings for name in each)
    rows = [[name, *(each.get(name, "-") for each in settings)] for name in names]
    page.table(["setting", *(entry.name for entry in entries)], rows)
    page.code("\n".join(entry.result.protocol.command for entry in entries))


def _numbers(entries: Sequence[Entry]) -> list[str]:
    """Return the names of all numbers, in the order in which they first occur."""
    return list(dict.fromkeys(name for entry in entries for name in entry.result.numbers))


def _names(files: Sequence[Path]) -> list[str]:
    """Name results by their folders, by as many of these as tell them apart."""
    for depth in range(1, max(len(file.parts) for file in files)):
        names = ["/".join(file.parent.parts[-depth:]) for file in files]
        if len(set(names)) == len(names) and "eval" not in names:
            return names
    return [str(file) for file in files]


def _pictures_beside(file: Path) -> Tensor | None:
    beside = file.with_name(ALBUM)
    if not beside.is_file():
        return None
    pictures = torch.cat(list(read_reference(beside).pictures()))
    return pictures[:: -(-len(pictures) // EACH)]


def _identity(protocol: Protocol) -> dict[str, tuple[object, str]]:
    """Return what must be the same for numbers to compare, and what it is called."""
    real, made = protocol.real, protocol.made
    size = "unknown" if made.size is None else in_words(made.size)
    return {
        "features": (protocol.network, f"{protocol.features} {protocol.network[:8]}"),
        "evaluation set": (real.fingerprint, f"{real.name} {real.fingerprint[:8]}"),
        "number of drawn pictures": (made.count, str(made.count)),
        "resolution": (made.size, size),
    }
