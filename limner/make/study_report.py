"""What `limner study` has to show: study.json, report.html, and strips of pictures."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from limner.core.config import from_dict, to_dict
from limner.core.files import replaced
from limner.data.images import to_float
from limner.evaluation.comparison import (
    Entry,
    read_entry,
    show_intervals,
    show_pictures,
    show_protocols,
    warnings_of,
)
from limner.evaluation.page import Page, in_figures
from limner.evaluation.result import RESULT, Number
from limner.make.plans import write_json
from limner.make.study import Study
from limner.make.studying import Measured
from limner.show.grid import contact_sheet

STUDY, REPORT, STRIPS = "study.json", "report.html", "pictures"
KIND = "study"
QUALITY = ("frechet_distance", "kernel_distance", "class_agreement")
"""Numbers that tables show; the others are in study.json."""


def write_study(
    study: Study, done: Sequence[Measured], output: Path, circumstances: Mapping[str, Any]
) -> None:
    """Write numbers, page and pictures of the entries that are done."""
    about = {
        "kind": KIND,
        "title": study.title,
        "about": study.about,
        "budget": str(study.budget),
        "parameters": list(study.parameters),
        "samples": study.samples,
        "circumstances": dict(circumstances),
    }
    entries = [to_dict(measured) for measured in done]
    write_json(output / STUDY, {**about, "entries": entries})
    results = [
        read_entry(measured.entry.name, output / measured.entry.name / "eval" / RESULT)
        for measured in done
    ]
    for result in results:
        _write_strip(result, output / STRIPS / f"{result.name}.png")
    if done:
        _write_page(study, done, results, output / REPORT)


def training_table(done: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of what was trained."""
    head = ["", "order", "head", "parameters", "tokenizer", "tokens"]
    head += ["training steps", "minutes", "training FLOP", "held-out loss"]
    rows = [
        [
            measured.entry.name,
            measured.entry.order,
            measured.entry.head,
            f"{measured.parameters:,}",
            measured.tokenizer,
            str(measured.tokens),
            f"{measured.steps:,} x {measured.batch}",
            f"{measured.seconds / 60:.1f}",
            f"{measured.flops:.3g}",
            _held_out(measured.held_out),
        ]
        for measured in done
    ]
    return head, rows


def drawing_table(done: Sequence[Measured]) -> tuple[list[str], list[list[str]]]:
    """Return head and rows of what drawing costs and how good the pictures are."""
    batches = list(dict.fromkeys(name for measured in done for name in measured.drawing.seconds))
    found = [{n: from_dict(Number, v, n) for n, v in each.numbers.items()} for each in done]
    shown = [name for name in QUALITY if any(name in numbers for numbers in found)]
    head = ["", "steps", "passes", "head's passes"]
    head += [f"ms a picture, batch {name}" for name in batches]
    head += [next(n[name].title for n in found if name in n) for name in shown]
    rows = []
    for measured, numbers in zip(done, found):
        cost = measured.drawing
        head_passes = str(cost.head_passes) if cost.head_passes else "-"
        times = [cost.seconds.get(name) for name in batches]
        row = [measured.entry.name, str(cost.steps), str(cost.passes), head_passes]
        row += ["-" if seconds is None else f"{1000 * seconds:.1f}" for seconds in times]
        row += [in_figures(numbers[name]) if name in numbers else "-" for name in shown]
        rows.append(row)
    return head, rows


def real_values(done: Sequence[Measured]) -> str:
    """Return what real pictures reach in the place of drawn ones, in a sentence."""
    numbers = done[0].numbers
    shown = [
        f"{numbers[name]['title']} {numbers[name]['real']:.4g}"
        for name in QUALITY
        if name in numbers and numbers[name]["real"] is not None
    ]
    return f"Real pictures in the place of drawn ones reach: {', '.join(shown)}." if shown else ""


NOTES = (
    "Held-out losses compare where tokenizer and kind of loss are the same. Passes are those of "
    "the generator's network for one picture, a guided row and its null row together; a head with "
    "a network of its own runs it so many times in all. Times are medians on one machine, the "
    "tokenizer's decoding included."
)


def _held_out(losses: Mapping[str, float]) -> str:
    bits = losses.get("bits_per_token")
    return f"{losses['loss']:.4g}" if bits is None else f"{bits:.3f} bits a token"


def _write_page(
    study: Study, done: Sequence[Measured], results: Sequence[Entry], path: Path
) -> None:
    page = Page(study.title, study.about)
    least, most = study.parameters
    page.text(f"{study.budget} each, {least:,} to {most:,} parameters, {study.samples:,} pictures.")
    for line in warnings_of(results):
        page.text(f"Warning: {line}.")
    page.section("Trained")
    page.table(*training_table(done))
    page.section("Drawn")
    page.table(*drawing_table(done))
    page.text(real_values(done))
    page.text(NOTES)
    page.section("Pictures", "Evenly spread over the drawn ones; a column has one class.")
    show_pictures(page, results)
    page.section("Numbers", "With their intervals.")
    show_intervals(page, results)
    page.section("How they were measured")
    show_protocols(page, results)
    page.save(path)


def _write_strip(result: Entry, path: Path) -> None:
    """Write the pictures of an entry side by side."""
    assert result.pictures is not None  # which every entry keeps beside its result
    pictures = to_float(result.pictures)
    with replaced(path) as temporary:
        contact_sheet(pictures, columns=len(pictures)).save(temporary)
