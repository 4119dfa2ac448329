"""Pages and pictures that are made of facts say what is so."""

from __future__ import annotations

import json

import pytest
import torch
import yaml
from PIL import Image

from limner.core.layout import grid
from limner.core.tokens import from_ids
from tests.docs.blocks import ROOT
from tools.docs_hooks import on_config
from tools.docs_pages import pages
from tools.draw_orders import ORDERS, orders_of_a_grid

MOST_BYTES = 300_000


@pytest.mark.parametrize("page", ["docs/systems/index.md", "docs/reproduced.md", "docs/results.md"])
def test_a_page_is_what_the_registries_and_results_say(page: str) -> None:
    written = (ROOT / page).read_text(encoding="utf-8")
    assert written == pages()[page], "run `python -m tools.docs_pages`"


def test_figures_name_their_source_and_protocol() -> None:
    reports = yaml.safe_load((ROOT / "docs" / "published.yaml").read_text(encoding="utf-8"))
    for report in reports.values():
        assert report["source"] and report["protocol"] and report["figures"]
        for figure in report["figures"]:
            assert isinstance(figure["published"], str), "a text: digits are kept as published"


def test_every_order_of_a_grid_is_shown_as_it_is() -> None:
    said = json.loads((ORDERS / "orders.json").read_text(encoding="utf-8"))["orders"]
    blank = from_ids(grid(16, 16), torch.zeros(1, 256, dtype=torch.int64))
    orders = orders_of_a_grid(blank, steps=said["masked"]["steps"])
    assert set(said) == set(orders) | {"next-scale"}
    concepts = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    for name, order in orders.items():
        assert said[name] == {"tokens": len(order.step), "steps": len(order)}
    for name, counts in said.items():
        assert f"(images/orders/{name}.gif)" in concepts
        file = ORDERS / f"{name}.gif"
        assert file.stat().st_size < MOST_BYTES
        with Image.open(file) as film:
            assert film.n_frames >= min(43, counts["steps"])  # type: ignore[attr-defined]


@pytest.mark.parametrize("name", ["masked", "next-scale", "raster"])
def test_the_table_of_steps_is_what_was_counted(name: str) -> None:
    counts = json.loads((ORDERS / "orders.json").read_text(encoding="utf-8"))["orders"][name]
    concepts = (ROOT / "docs" / "concepts.md").read_text(encoding="utf-8")
    row = next(line for line in concepts.splitlines() if line.startswith(f"| {name}"))
    assert row.endswith(f"| {counts['tokens']} | {counts['steps']} |")


def test_new_pages_enter_the_navigation_by_themselves(tmp_path) -> None:
    (tmp_path / "systems").mkdir()
    for page in ("index.md", "new-guide.md", "systems/index.md", "systems/b.md", "systems/a.md"):
        (tmp_path / page).write_text("# Title\n")
    nav = [{"Start": "index.md"}, {"Systems": "systems/"}, {"Guides": "guides/"}]
    made = on_config({"docs_dir": str(tmp_path), "nav": nav})["nav"]
    assert made == [
        {"Start": "index.md"},
        {"Systems": ["systems/index.md", "systems/a.md", "systems/b.md"]},
        {"Guides": ["new-guide.md"]},
    ]
