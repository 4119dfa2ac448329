"""The first thing a newcomer runs: limner learns from real pictures and draws new ones.

In a few minutes on two CPU cores a small class-conditional LlamaGen is trained on the packaged
emoji, draws while one watches, and writes a report that shows what it learned and what it copied.
"""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch import Tensor

from limner.core.files import replaced
from limner.data import PictureSet, load_pictures
from limner.evaluation.classifier import train_classifier
from limner.evaluation.neighbours import nearest_pictures
from limner.pipeline import Pipeline
from limner.show.animation import save_animation
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.show.report import Report
from limner.show.terminal import LiveView
from limner.training import Recipe, load_recipe, train

RECIPE = "llamagen/tiny"
EACH = 8  # pictures drawn of every class
GUIDANCE = 2.5
TOP_P = 0.98
CLASSIFIER_SECONDS = 25.0


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


def run(
    output: str = "runs/quickstart", seconds: float = 180.0, console: Console | None = None
) -> dict[str, Any]:
    """Train, draw, measure and report.

    Args:
        output: folder of the run.
        seconds: of training; drawing and measuring take about one minute more.
        console: where progress is shown; None: standard error.

    Returns:
        The measurements, as metrics.json holds them.

    Raises:
        LimnerError: the folder cannot be used.
    """
    console = console or Console(stderr=True)
    recipe = load_recipe(RECIPE, {"output": output, "budget.seconds": seconds, "sample.each": 0})
    assert isinstance(recipe, Recipe)
    torch.set_num_threads(quickest_threads())
    console.print(f"[bold]1/3[/] learning from real pictures for {seconds:.0f} s ({RECIPE})")
    trained = train(recipe)

    console.print("[bold]2/3[/] drawing")
    drawn = draw(trained.pipeline, console)

    console.print("[bold]3/3[/] measuring: which class does a classifier see in the pictures?")
    pictures = load_pictures(recipe.data.source, recipe.data.size, recipe.data.classes)
    learned, held_out = pictures.split(recipe.data.held_out)
    metrics = trained.metrics | measure(drawn, pictures, seconds=CLASSIFIER_SECONDS)

    folder = Path(trained.directory)
    save_pictures(folder, drawn, recipe)
    with replaced(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    write_report(folder, trained.pipeline, drawn, learned, held_out, metrics)
    _say(console, folder, metrics)
    return metrics


def quickest_threads() -> int:
    """Return all threads, or 1 where other programs keep the cores busy.

    Threads that wait for a busy core can make a step ten times slower than one thread alone.
    """
    threads = torch.get_num_threads()
    matrix = torch.ones(512, 512)
    seconds = {}
    for count in (1, threads):
        torch.set_num_threads(count)
        for _ in range(20):  # wakes the threads
            matrix @ matrix
        started = time.monotonic()
        for _ in range(40):
            matrix @ matrix
        seconds[count] = time.monotonic() - started
    return min(seconds, key=lambda count: seconds[count])


def draw(pipeline: Pipeline, console: Console) -> Drawn:
    """Draw pictures of every class, with a live preview."""
    labels = torch.arange(len(pipeline.classes)).repeat_interleave(EACH)
    frames, shown = [], torch.empty(0)
    steps = pipeline.stream(classes=labels.tolist(), guidance=GUIDANCE, top_p=TOP_P)
    with LiveView(console, "") as view:
        for preview in steps:
            shown = preview.pictures
            if preview.step % 2 == 0 or preview.step == preview.total:
                view.show(shown)
                frames.append(contact_sheet(shown, columns=EACH))
    return Drawn(shown, labels, frames)


def measure(drawn: Drawn, pictures: PictureSet, seconds: float) -> dict[str, Any]:
    """Return how often a classifier trained on real pictures agrees with the class asked for."""
    rng = torch.Generator().manual_seed(0)
    classifier = train_classifier(pictures, rng, seconds=seconds)
    return {
        "class_agreement": classifier.agreement(drawn.pictures, drawn.labels),
        "class_agreement_of_held_out_pictures": classifier.held_out_accuracy,
        "class_agreement_by_chance": 1 / len(pictures.classes),
    }


def save_pictures(folder: Path, drawn: Drawn, recipe: Recipe) -> None:
    """Write samples.png and drawing.gif."""
    settings = {"recipe": recipe.name, "guidance": GUIDANCE, "top_p": TOP_P, "seed": 0}
    save_png(contact_sheet(drawn.pictures, columns=EACH), folder / "samples.png", settings)
    save_animation(drawn.frames, folder / "drawing.gif")


def write_report(
    folder: Path,
    pipeline: Pipeline,
    drawn: Drawn,
    learned: PictureSet,
    held_out: PictureSet,
    metrics: dict[str, Any],
) -> None:
    """Write report.html."""
    report = Report(
        "limner quickstart",
        "A small LlamaGen learned from packaged emoji (Twemoji, CC-BY 4.0) on this machine, and "
        "drew new ones token by token.",
    )
    _show_drawn(report, folder, pipeline, drawn)
    _show_numbers(report, folder, metrics)
    _show_real(report, pipeline, held_out)
    _show_nearest(report, drawn, learned)
    report.section("Go on")
    report.code(
        f"limner sample {folder} --class Flags --count 16 --guidance {GUIDANCE} --grid\n"
        "limner train llamagen/tiny --budget.seconds 1800 --output runs/longer\n"
        "limner models"
    )
    report.save(folder / "report.html")


def _show_drawn(report: Report, folder: Path, pipeline: Pipeline, drawn: Drawn) -> None:
    report.section(
        "Drawn just now",
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
    lines = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
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
    with torch.no_grad():
        again = pipeline.tokenizer.decode(pipeline.tokenizer.encode(real))
    report.pictures(real, shown.captions, side=80)
    report.pictures(again, side=80)


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


def _say(console: Console, folder: Path, metrics: dict[str, Any]) -> None:
    base = metrics["baseline_bits_per_token"]
    console.print(
        f"held-out pictures: [bold]{metrics['held_out']['bits_per_token']:.2f}[/] bits per token "
        f"(bigram {base['bigram']:.2f}, unigram {base['unigram']:.2f})\n"
        f"drawn pictures seen as their class: [bold]{metrics['class_agreement']:.0%}[/] "
        f"(chance {metrics['class_agreement_by_chance']:.0%}, real pictures "
        f"{metrics['class_agreement_of_held_out_pictures']:.0%})\n"
        f"open [bold]{folder / 'report.html'}[/]"
    )
