"""Pictures that cannot be read: skipped, counted and listed, and refused when they are many."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from limner.core.errors import DataError, check

UNREADABLE = 0.1  # share of the pictures that may be unreadable, where nothing else is said

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Unreadable:
    """Stands where a picture should be, and says why it is not there."""

    reason: str


class SkipList:
    """The pictures of one source that were skipped, each listed once.

    Args:
        source: what messages call the source.
        total: number of pictures that the share is taken of.
        limit: share of them above which it is an error.
        noun: what messages call them.

    Raises:
        ConfigError: a limit that is not accepted.
    """

    def __init__(
        self, source: str, total: int, limit: float = UNREADABLE, noun: str = "pictures"
    ) -> None:
        check(0 <= limit <= 1, "unreadable", limit, "between 0 and 1")
        self.source = source
        self.total = total
        self.limit = limit
        self.noun = noun
        self._reasons: dict[str, str] = {}
        self._reported = 0

    @property
    def lines(self) -> tuple[str, ...]:
        """One "key: reason" a picture, in the order in which they were found."""
        return tuple(f"{key}: {reason}" for key, reason in self._reasons.items())

    def add(self, key: str, unreadable: Unreadable) -> None:
        """List a picture; one that is listed already changes nothing."""
        self._reasons.setdefault(key, unreadable.reason)

    def report(self) -> None:
        """Log the list if it grew since the last report.

        Raises:
            DataError: more pictures than the limit are on it, or all of them.
        """
        count = len(self._reasons)
        if count == self._reported:
            return
        self._reported = count
        shown = "; ".join(self.lines[:5]) + ("; ..." if count > 5 else "")
        summary = f"{count} of {self.total} {self.noun} in {self.source!r} cannot be read: {shown}"
        if count > self.limit * self.total or count == self.total:
            limit = f"more than {100 * self.limit:.3g}%" if count < self.total else "none is left"
            raise DataError(f"{summary} ({limit}: repair or remove them)")
        logger.warning("%s (skipped)", summary)
