"""Which replay runs which case."""

from __future__ import annotations

import importlib
import pkgutil
from collections.abc import Callable
from fnmatch import fnmatchcase

import limner.verify
from limner.verify.case import Case, CaseError

Replay = Callable[[Case], None]

_REPLAYS: dict[str, Replay] = {}


def replay(pattern: str) -> Callable[[Replay], Replay]:
    """Register a replay for the cases whose "system/case" fits a pattern with * and ?."""

    def register(function: Replay) -> Replay:
        _REPLAYS[pattern] = function
        return function

    return register


def replays() -> dict[str, Replay]:
    """Return all replays by the pattern of the cases that they run."""
    for module in pkgutil.iter_modules(limner.verify.__path__, "limner.verify."):
        importlib.import_module(module.name)
    return dict(_REPLAYS)


def replay_of(case: Case) -> Replay:
    """Return the replay of a case; of several patterns that fit, the longest goes first.

    Raises:
        CaseError: there is none.
    """
    known = replays()
    title = f"{case.system}/{case.name}"
    fits = [pattern for pattern in known if fnmatchcase(title, pattern)]
    if not fits:
        raise CaseError(f"no replay for {title!r}; known: {', '.join(sorted(known))}")
    return known[max(fits, key=len)]
