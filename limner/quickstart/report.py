"""The report of the quickstart: what was drawn, how well it was learned, what was copied."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.data import PictureSet
from limner.evaluation.neighbours import nearest_pictures
from limner.pipeline import Pipeline
from limner.quickstart.shipped import Shown
from limner.show.report import Report
from limner.training.run import read_log

EACH = 8  # pictures drawn of every class


@dataclass(frozen=True, eq=False)
class Drawn:
    """What the trained pipeline drew.

    Args:
        pictures: float [classes x EACH, 3, H, W] in [-1, 1], class after class.
        labels: int64 [classes x EACH].
        frames: a contact sheet of all pictures after every few steps.
    """

    pictures: Tensor
    labels: Tensor
    frames: list[Any]


def write_report(
    folder: Path,
    shown: Shown,
    pipeline: Pipeline,
    drawn: Drawn,
    learned: PictureSet,
    held_out: PictureSet,
    metrics: dict[str, Any],
) -> None:
    """Write report.html."""
    report = Report(
        "limner quickstart",
        "First the packaged model drew what it was asked for; then a smaller one learned from "
        "packaged emoji (Twemoji, CC-BY 4.0) on this machine, and drew new ones token by token.",
    )
    _show_shipped(report, folder, shown)
    _show_drawn(report, folder, pipeline, drawn)
    _show_numbers(report, folder, metrics)
    _show_real(report, pipeline, held_out)
    _show_nearest(report, drawn, learned)
    report.section("Go on")
    report.code(
        'limner sample "a red fox" --style noto --count 4 --grid\n'
        f"limner sample {folder} --class Flags --count 16 --grid\n"
        "limner train llamagen/tiny --budget.seconds 1800 --output runs/longer\n"
        "limner models"
    )
    report.save(folder / "report.html")


def _show_shipped(report: Report, folder: Path, shown: Shown) -> None:
    report.section(
        "Drawn by the packaged model",
        "By a caption and a style; a row a style: " + ", ".join(shown.styles) + ". It learned from "
        "the drawings of three artists; how well is told in the documentation.",
    )
    report.animation(folder / "shipped.gif", side=66 * len(shown.captions) * 2)
    for number in range(len(shown.styles)):
        row = slice(number * len(shown.captions), (number + 1) * len(shown.captions))
        report.pictures(shown.pictures[row], shown.captions, side=96)


def _show_drawn(report: Report, folder: Path, pipeline: Pipeline, drawn: Drawn) -> None:
    report.section(
        "Learned and drawn just now",
        f"A row a class: {', '.join(pipeline.classes)}. Every picture is 8 x 8 tokens, each drawn "
        "after all that stand before it, from the top left to the bottom right.",
    )
    report.animation(folder / "drawing.gif", side=34 * EACH * 2)
    for number, name in enumerate(pipeline.classes):
        captions = [name] + [""] * (EACH - 1)
        report.pictures(drawn.pictures[drawn.labels == number], captions, side=80)


def _show_numbers(report: Report, folder: Path, metrics: dict[str, Any]) -> None:
    report.section(
        "How well it learned",
        "Bits per token on pictures it never saw: fewer is better. The unigram knows how frequent "
        "each code is, the bigram also the code before; both are tuned in their favour.",
    )
    base = metrics["baseline_bits_per_token"]
    held_out = metrics["held_out"]["bits_per_token"]
    wrong = metrics["held_out_with_shuffled_condition"]["bits_per_token"]
    lines = read_log(folder)
    to_bits = held_out / metrics["held_out"]["loss"]
    curves = {
        name: [(m["seconds"], m[field] * to_bits) for m in lines if m.get(field) is not None]
        for name, field in (("learning", "loss"), ("held out", "held_out"))
    }
    report.plot(curves, "seconds", "bits per token", {"bigram": base["bigram"]})
    share = "{:.0%}".format
    report.table(
        ["", "value"],
        [
            ["parameters", f"{metrics['parameters']:,}"],
            ["steps", f"{metrics['steps']:,}"],
            ["held-out bits per token", f"{held_out:.2f}"],
            ["the same with wrong classes", f"{wrong:.2f}"],
            ["bigram", f"{base['bigram']:.2f}"],
            ["unigram", f"{base['unigram']:.2f}"],
            ["drawn pictures seen as their class", share(metrics["class_agreement"])],
            ["real held-out pictures", share(metrics["class_agreement_of_held_out_pictures"])],
            ["chance", share(metrics["class_agreement_by_chance"])],
        ],
    )


def _show_real(report: Report, pipeline: Pipeline, held_out: PictureSet) -> None:
    report.section(
        "What the tokens can say",
        "Real pictures that were held out, and below each what is left of it after it was turned "
        "into tokens and back: no drawing can be better than that.",
    )
    shown = held_out.subset(torch.linspace(0, len(held_out) - 1, 10).long())
    real = shown.to_float()
    report.pictures(real, shown.captions, side=80)
    report.pictures(pipeline.tokenizer.there_and_back(real), side=80)


def _show_nearest(report: Report, drawn: Drawn, learned: PictureSet) -> None:
    report.section(
        "Learned or copied?",
        "Some drawn pictures, and below each the nearest picture it learned from.",
    )
    chosen = torch.arange(0, len(drawn.pictures), EACH // 2)[:14]
    near = nearest_pictures(drawn.pictures[chosen], learned)
    captions = [f"differs by {distance:.2f}" for distance in near.distance.tolist()]
    report.pictures(drawn.pictures[chosen], side=64)
    report.pictures(learned.to_float(near.index), captions, side=64)
