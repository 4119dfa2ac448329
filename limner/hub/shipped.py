"""Pipelines that come with the package, so that a newcomer draws without a download."""

from __future__ import annotations

from importlib import resources
from pathlib import Path

SHIPPED = Path(str(resources.files("limner"))) / "weights"
FIRST = "emoji"  # the one that `limner sample` draws with if none is named


def shipped_pipelines() -> tuple[str, ...]:
    """Names of the pipelines in the package."""
    return tuple(sorted(folder.name for folder in SHIPPED.iterdir() if folder.is_dir()))


def shipped(name: str | Path) -> Path | None:
    """Return the folder of a pipeline in the package, or None."""
    return SHIPPED / str(name) if str(name) in shipped_pipelines() else None
