"""Tables in the terminal: plain text in columns."""

from __future__ import annotations

from collections.abc import Sequence


def print_table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Print rows below their head, columns aligned."""
    lines = [head, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    for line in lines:
        cells = [f"{cell:{width}}" for cell, width in zip(line, widths)]
        print("  ".join(cells).rstrip())
