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


def replay_of(case: Case) -> Replay:
    """Return the replay of a case; of several patterns that fit, the longest goes first.

    Raises:
        CaseError: there is none.
    """
    for module in pkgutil.iter_modules(limner.verify.__path__, "limner.verify."):
        importlib.import_module(module.name)
    title = f"{case.system}/{case.name}"
    fits = [pattern for pattern in _REPLAYS if fnmatchcase(title, pattern)]
    if not fits:
        raise CaseError(f"no replay for {title!r}; known: {', '.join(sorted(_REPLAYS))}")
    return _REPLAYS[max(fits, key=len)]
