"""Official weights of published systems: one file a system, with its key tables.

A file `limner/hub/official/<system>.py` offers its converters as a tuple named `CONVERTERS`.
"""

from __future__ import annotations

import importlib
import pkgutil
from functools import cache

from limner.hub.official.converter import Converter


@cache
def converters() -> dict[str, Converter]:
    """Return every converter by the name of its system."""
    found: dict[str, Converter] = {}
    for info in pkgutil.iter_modules(__path__, __name__ + "."):
        module = importlib.import_module(info.name)
        for converter in getattr(module, "CONVERTERS", ()):
            found[converter.system] = converter
    return found


__all__ = ["Converter", "converters"]
