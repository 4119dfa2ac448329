"""Columns of tables that describe pictures: what they may be called and what they may hold."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from limner.core.errors import DataError

FILE = ("file", "path", "file_name", "filename", "image")
LABEL = ("label", "class")
CAPTION = ("caption", "text")


def find_column(columns: Iterable[str], accepted: Sequence[str]) -> str | None:
    """Return the first accepted name that is there; capitals do not count."""
    there = {column.strip().lower(): column for column in columns}
    return next((there[name] for name in accepted if name in there), None)


def number_labels(values: Sequence[object], alone: str, where: str) -> tuple[list[str], list[int]]:
    """Turn the label of every picture into a number.

    Whole numbers are ordered by value and texts by the alphabet; numbers that stand in the file as
    text count as numbers.

    Args:
        values: N labels, whole numbers or texts.
        alone: the one class of a source without labels, of which every value is None.
        where: what messages call the source.

    Returns:
        Names of the classes and N indices into them.

    Raises:
        DataError: a label is missing while others are there, or is neither number nor text.
    """
    if all(value is None for value in values):
        return [alone], [0] * len(values)
    for row, value in enumerate(values, start=1):
        if isinstance(value, bool) or not isinstance(value, (int, str)) or value == "":
            raise DataError(
                f"{where}: picture {row} has the label {value!r}: give every picture a whole "
                "number or a text, or none of them a label"
            )
    texts = [str(value).strip() for value in values]
    names = set(texts)
    numeric = all(name.removeprefix("-").isdecimal() for name in names)
    classes = sorted(names, key=int) if numeric else sorted(names)
    numbers = {name: number for number, name in enumerate(classes)}
    return classes, [numbers[text] for text in texts]


def check_captions(values: Sequence[object], where: str) -> list[str | None]:
    """Return captions without surrounding space; None where there is none.

    Raises:
        DataError: a caption is no text.
    """
    captions: list[str | None] = []
    for row, value in enumerate(values, start=1):
        if value is not None and not isinstance(value, str):
            raise DataError(f"{where}: picture {row} has the caption {value!r}: it must be a text")
        captions.append((value or "").strip() or None)
    return captions
