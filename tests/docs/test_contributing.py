"""The worked example of CONTRIBUTING.md."""

from __future__ import annotations

from pathlib import Path

from limner.core.registry import MODELS
from tests.docs.blocks import blocks_of, run_page, workplace

PAGE = "CONTRIBUTING.md"


def test_the_worked_example_draws_what_it_finds_likeliest(tmp_path: Path) -> None:
    assert [block.verb for block in blocks_of(PAGE)] == ["file", "run"]
    with workplace(tmp_path):
        run_page(PAGE, {})
        assert MODELS.get_variant("row-by-row-s").family == "row-by-row"
    assert all(variant.name != "row-by-row-s" for variant in MODELS.variants())
