"""The quickstart: a short one for its files, and a whole one for what it promises."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

import limner.quickstart as quickstart
from limner.pipeline import Pipeline
from limner.training import load_recipe

SMALLER = {
    "data.classes": ["Flags", "Symbols"],
    "data.views": {"kind": "centre"},
    "tokenizer.config.codebook_size": 32,
    "model.config.width": 32,
    "model.config.depth": 1,
    "model.config.heads": 2,
    "evaluations": 2,
}


def run(folder: Path, seconds: float) -> tuple[dict[str, Any], str]:
    """Run the quickstart and return its measurements and what it said."""
    said = io.StringIO()
    metrics = quickstart.run(str(folder), seconds, Console(file=said))
    return metrics, said.getvalue()


def test_it_leaves_pictures_and_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def smaller(name: str, overrides: dict[str, Any]) -> Any:
        return load_recipe(name, overrides | SMALLER)

    monkeypatch.setattr(quickstart, "load_recipe", smaller)
    monkeypatch.setattr(quickstart, "CLASSIFIER_SECONDS", 0.2)
    metrics, said = run(tmp_path / "run", 1.0)
    folder = tmp_path / "run"
    assert "report.html" in said
    assert json.loads((folder / "metrics.json").read_text()) == json.loads(json.dumps(metrics))
    page = (folder / "report.html").read_text()
    # the page needs nothing beside it: all pictures are inside, and the animations
    assert page.count("data:image/png;base64,") > 2 * quickstart.EACH
    assert page.count("data:image/gif;base64,") == 2  # by the packaged model, and by its own
    assert (folder / "shipped.gif").is_file()
    assert 'src="http' not in page and "<svg" in page
    assert Pipeline.from_pretrained(folder)(classes=["Flags"]).pictures.shape == (1, 3, 32, 32)


@pytest.mark.slow
def test_it_learns_from_real_pictures(tmp_path: Path) -> None:
    metrics, _ = run(tmp_path / "run", 180.0)
    bits = metrics["held_out"]["bits_per_token"]
    baseline = metrics["baseline_bits_per_token"]
    assert bits < baseline["bigram"] - 0.5
    assert bits < baseline["unigram"] - 0.5
    assert bits < metrics["held_out_with_shuffled_condition"]["bits_per_token"]
    assert metrics["class_agreement"] >= 3 * metrics["class_agreement_by_chance"]


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
def test_the_report_is_drawn_by_a_browser(tmp_path: Path) -> None:
    from limner.show.report import Report

    report = Report("a title", "a lead")
    report.plot({"loss": [(0, 3.0), (1, 2.0)]}, "step", "loss", {"bigram": 2.5})
    report.save(tmp_path / "report.html")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
    flags += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
    command = ["chromium", *flags, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"]
    page = subprocess.run(
        [*command, f"file://{tmp_path / 'report.html'}"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout
    assert "a title" in page and "<polyline" in page and "bigram 2.5" in page
