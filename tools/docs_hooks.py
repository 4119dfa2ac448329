"""What mkdocs does beside mkdocs.yml: folders in the navigation stand for the pages in them.

`systems/` is every page on a system, `guides/` every page that the navigation names nowhere, so
that a new page needs no entry.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

SYSTEMS, GUIDES = "systems/", "guides/"


def on_config(config: Any) -> Any:
    """Put lists of pages in the place of folders."""
    root = Path(config["docs_dir"])
    named = set(_pages(config["nav"]))
    systems = sorted(path.name for path in (root / "systems").glob("*.md") if path.stem != "index")
    lists = {
        SYSTEMS: ["systems/index.md", *(SYSTEMS + name for name in systems)],
        GUIDES: sorted(path.name for path in root.glob("*.md") if path.name not in named),
    }
    config["nav"] = [_filled(entry, lists) for entry in config["nav"]]
    return config


def _filled(entry: Any, lists: dict[str, list[str]]) -> Any:
    """Return an entry of the navigation; a folder becomes the list of its pages."""
    title, content = next(iter(entry.items()))
    return {title: lists.get(content, content) if isinstance(content, str) else content}


def _pages(nav: Any) -> list[str]:
    """Return every page that the navigation names."""
    if isinstance(nav, str):
        return [nav]
    children = nav.values() if isinstance(nav, dict) else nav
    return [page for child in children for page in _pages(child)]
