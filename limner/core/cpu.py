"""Which CPU this is: libraries of matrix products are fast at different shapes on each."""

from __future__ import annotations

import functools
import platform
from pathlib import Path


def name() -> str:
    """Return the processor's name, as "AMD EPYC 7763"."""
    return _listed("model name") or platform.processor()


@functools.cache
def is_intel() -> bool:
    """Return whether the processor is one of Intel's."""
    return "GenuineIntel" in (_listed("vendor_id") or platform.processor())


def _listed(field: str) -> str:
    """Return what Linux says of the first core, "" elsewhere."""
    listed = Path("/proc/cpuinfo")
    lines = listed.read_text().splitlines() if listed.exists() else []
    found = (line.split(":", 1)[1].strip() for line in lines if line.startswith(field))
    return next(found, "")
