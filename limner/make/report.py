"""What `limner make` has to show: one page with pictures, choices and measurements."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from limner.core.files import replaced
from limner.data import PictureSet, load_pictures
from limner.evaluation.classifier import train_classifier
from limner.evaluation.neighbours import nearest_pictures
from limner.make.stages import Made
from limner.show.report import Report
from limner.training.run import read_log

SHOWN = 10  # classes and pictures
EACH = 8  # pictures drawn of every class
CLASSIFIER_SECONDS = 20.0


def write_report(made: Made) -> dict[str, Any]:
    """Draw, measure, and write report.html and metrics.json.

    Returns:
        The measurements.
    """
    folder = made.directory
    pipeline, data = made.pipeline, made.plan.generator["data"]
    pictures = load_pictures(data["source"], pipeline.size[0])
    learned, held_out = pictures.split(data["held_out"])
    drawn, labels = _draw(made, pictures)
    metrics: dict[str, Any] = {
        "tokenizer": made.tokenizer.metrics,
        "generator": made.generator.metrics,
    }
    if len(pictures.classes) > 1:
        rng = torch.Generator().manual_seed(0)
        classifier = train_classifier(pictures, rng, seconds=CLASSIFIER_SECONDS)
        metrics["class_agreement"] = {
            "drawn": classifier.agreement(drawn, labels),
            "real_held_out": classifier.held_out_accuracy,
            "chance": 1 / len(pictures.classes),
        }
    report = Report(
        folder.name, "Made by `limner make`: a tokenizer and a generator trained on a folder."
    )
    _show_drawn(report, made, drawn, labels)
    _show_found(report, made, pictures)
    _show_tokenizer(report, made, held_out)
    _show_generator(report, made, metrics)
    _show_nearest(report, drawn, learned)
    report.section("Go on")
    asking = '--prompt "..."' if "prompt" in pipeline.generator.condition.by else "--count 16"
    report.code(
        f"limner sample {folder} {asking} --guidance 2 --grid\n"
        f"limner train {folder / 'generator'} --resume --budget.steps "
        f"{2 * made.generator.metrics['steps']}\n"
        f"limner train {folder / 'generator.yaml'} --output runs/other --model.config.depth 8"
    )
    report.save(folder / "report.html")
    with replaced(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    return metrics


def _draw(made: Made, pictures: PictureSet) -> tuple[Tensor, Tensor]:
    """Pictures of every class, or of some captions; and their classes."""
    pipeline = made.pipeline
    sample = made.plan.generator["sample"]
    settings = {name: sample[name] for name in ("guidance", "top_p") if name in sample}
    if "prompt" in pipeline.generator.condition.by:
        step = max(1, len(pictures) // (SHOWN * 2))
        captions = list(pictures.captions[::step][: SHOWN * 2])
        drawn = pipeline(prompts=captions, seed=0, **settings).pictures
        return drawn, torch.zeros(len(drawn), dtype=torch.int64)
    labels = torch.arange(len(pipeline.classes)).repeat_interleave(EACH)
    parts = [pipeline(classes=c.tolist(), seed=0, **settings).pictures for c in labels.split(64)]
    return torch.cat(parts), labels


def _show_drawn(report: Report, made: Made, drawn: Tensor, labels: Tensor) -> None:
    report.section("Drawn just now", "A row a class; none of these pictures existed before.")
    for number, name in enumerate(made.pipeline.classes[:SHOWN]):
        captions = [name] + [""] * (EACH - 1)
        row = drawn[labels == number][: 2 * EACH]
        report.pictures(row, captions if len(row) == EACH else (), side=80)


def _show_found(report: Report, made: Made, pictures: PictureSet) -> None:
    report.section("What was found")
    for line in made.found:
        report.text(line)
    index = torch.linspace(0, len(pictures) - 1, SHOWN).long()
    shown = pictures.subset(index)
    report.pictures(shown.to_float(), shown.captions, side=72)
    report.section("What was chosen, and why")
    report.table(["choice", "reason"], [list(reason) for reason in made.plan.reasons])


def _show_tokenizer(report: Report, made: Made, held_out: PictureSet) -> None:
    measured = made.tokenizer.metrics["held_out"]
    report.section(
        "The tokenizer",
        "Held-out pictures, and below each what is left of it after it was turned into tokens and "
        "back: no drawing can be better than that.",
    )
    real = held_out.to_float(torch.linspace(0, len(held_out) - 1, SHOWN).long())
    report.pictures(real, side=72)
    report.pictures(made.tokenizer.part.there_and_back(real), side=72)
    report.plot(
        {"held out": _course(made.tokenizer.directory, "held_out_psnr")},
        "steps",
        "PSNR in dB",
    )
    rows = [
        ["steps", f"{made.tokenizer.metrics['steps']:,}"],
        ["PSNR", f"{measured['psnr']:.2f} dB"],
        ["SSIM", f"{measured['ssim']:.3f}"],
        ["codes used", f"{measured['usage']:.0%}"],
        ["perplexity", f"{measured['perplexity']:.0f}"],
    ]
    report.table(["", "value"], rows)


def _show_generator(report: Report, made: Made, metrics: dict[str, Any]) -> None:
    run = made.generator
    base, held_out = run.metrics["baseline_bits_per_token"], run.metrics["held_out"]
    report.section(
        "The generator",
        "Bits per token on pictures it never saw: fewer is better. The unigram knows how frequent "
        "each code is, the bigram also the code before.",
    )
    report.plot(
        {"held out": _course(run.directory, "held_out_bits_per_token")},
        "steps",
        "bits per token",
        base,
    )
    wrong = run.metrics["held_out_with_shuffled_condition"]
    rows = [
        ["parameters", f"{run.metrics['parameters']:,}"],
        ["steps", f"{run.metrics['steps']:,}"],
        ["held-out bits per token", f"{held_out['bits_per_token']:.2f}"],
        ["the same when told wrongly", f"{wrong['bits_per_token']:.2f}"],
        *([name, f"{value:.2f}"] for name, value in base.items()),
    ]
    for name, value in metrics.get("class_agreement", {}).items():
        rows.append([f"seen as their class: {name.replace('_', ' ')}", f"{value:.0%}"])
    report.table(["", "value"], rows)


def _show_nearest(report: Report, drawn: Tensor, learned: PictureSet) -> None:
    report.section(
        "Learned or copied?", "Drawn pictures, and below each the nearest one it learned from."
    )
    chosen = drawn[torch.linspace(0, len(drawn) - 1, SHOWN).long()]
    near = nearest_pictures(chosen, learned)
    captions = [f"differs by {distance:.2f}" for distance in near.distance.tolist()]
    report.pictures(chosen, side=64)
    report.pictures(learned.to_float(near.index), captions, side=64)


def _course(run: Path, name: str) -> list[tuple[float, float]]:
    return [(line["step"], line[name]) for line in read_log(run) if name in line]
