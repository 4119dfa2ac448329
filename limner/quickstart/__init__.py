"""The first thing a newcomer runs: limner draws, then learns from real pictures and draws again.

Within seconds the packaged model draws what captions ask for. Then, in a few minutes on two CPU
cores, a small class-conditional LlamaGen is trained on the packaged emoji, draws while one watches,
and a report shows what it learned and what it copied.
"""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from limner.core.files import replaced
from limner.data import PictureSet, load_pictures
from limner.evaluation.classifier import train_classifier
from limner.pipeline import Pipeline
from limner.quickstart.report import EACH, Drawn, write_report
from limner.quickstart.shipped import draw_shipped, save_shown
from limner.show.animation import save_animation
from limner.show.grid import contact_sheet
from limner.show.png import save_png
from limner.show.terminal import LiveView
from limner.training import Recipe, load_recipe, train

RECIPE = "llamagen/tiny"
GUIDANCE = 2.5
TOP_P = 0.98
CLASSIFIER_SECONDS = 25.0


def run(
    output: str = "runs/quickstart", seconds: float = 180.0, console: Console | None = None
) -> dict[str, Any]:
    """Draw, train, draw, measure and report.

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
    console.print("[bold]1/4[/] the packaged model draws")
    shown = draw_shipped(console)

    console.print(f"[bold]2/4[/] learning from real pictures for {seconds:.0f} s ({RECIPE})")
    trained = train(recipe)

    console.print("[bold]3/4[/] drawing")
    drawn = draw(trained.pipeline, console)

    console.print("[bold]4/4[/] measuring: which class does a classifier see in the pictures?")
    pictures = load_pictures(recipe.data.source, recipe.data.size, recipe.data.classes)
    learned, held_out = pictures.split(recipe.data.held_out)
    metrics = trained.metrics | measure(drawn, pictures, seconds=CLASSIFIER_SECONDS)

    folder = Path(trained.directory)
    save_pictures(folder, drawn, recipe)
    save_shown(shown, folder)
    with replaced(folder / "metrics.json") as temporary:
        temporary.write_text(json.dumps(metrics, indent=2) + "\n", encoding="utf-8")
    write_report(folder, shown, trained.pipeline, drawn, learned, held_out, metrics)
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
