"""A training run from beginning to end: pictures, tokens, generator, steps, and what is kept."""

from __future__ import annotations

from typing import Any

import torch

from limner.conditions.t5 import T5TextEncoder
from limner.core.errors import ConfigError
from limner.core.generator import Generator
from limner.core.registry import MODELS
from limner.core.seeds import seeded
from limner.hub.build import parameter_count
from limner.pipeline import Pipeline
from limner.training.examples import Examples, prepare
from limner.training.learner import Learner
from limner.training.measure import baselines, held_out_loss, shuffled_condition
from limner.training.parts import build_part, start_from_codes
from limner.training.progress import Moment, Progress, choose_progress
from limner.training.recipe import Recipe
from limner.training.run import Run, RunFolder


def train(recipe: Recipe, progress: Progress | None = None) -> Run:
    """Train a generator as a recipe says.

    The state with the lowest held-out loss is written as soon as it is measured, so little is lost
    when a run ends early; Ctrl-C ends it in good order. A budget of steps gives the same weights,
    to the bit, on every run on one machine. The global seed of torch is set, as fresh weights and
    dropout draw from it; all else has generators of its own.

    Args:
        recipe: from `load_recipe`.
        progress: is told what happens; None: a bar on a terminal, plain lines elsewhere.

    Raises:
        LimnerError: the recipe cannot be followed, or a loss is not finite.
    """
    progress = progress or choose_progress()
    try:
        with RunFolder(recipe) as folder:
            return _train(recipe, folder, progress)
    finally:
        progress.close()


def _train(recipe: Recipe, folder: RunFolder, progress: Progress) -> Run:
    torch.manual_seed(recipe.seed)
    device = choose_device(recipe.device)
    data = prepare(recipe, device)
    generator: Generator = build_part(MODELS, recipe.model, data.facts()).to(device)
    if recipe.start_from_codes and recipe.model.weights is None:
        start_from_codes(generator, data.tokenizer, seeded(recipe.seed, "codes"))
    size = (recipe.data.size, recipe.data.size)
    encoder = None if recipe.text_encoder is None else T5TextEncoder(recipe.text_encoder)
    pipeline = Pipeline(data.tokenizer, generator, data.classes, size, encoder)
    examples = data.train.asked_of(generator.condition, encoder)
    held_out = data.held_out.asked_of(generator.condition, encoder)
    progress.say(
        f"{recipe.name}: {parameter_count(generator):,} parameters, {len(examples):,} examples of "
        f"{len(examples.tokens.layout)} tokens, {len(held_out)} held out, on {device}"
    )

    def watch(moment: Moment) -> None:
        folder.log(moment)
        progress.update(moment)

    def keep() -> None:
        folder.keep(pipeline)

    learner = Learner(recipe, generator, examples, held_out, keep, watch)
    interrupted = learner.run()

    best = Pipeline.from_pretrained(folder.path, device=device, text_encoder=encoder)
    metrics = {
        "steps": learner.step,
        "seconds": round(learner.seconds, 1),
        "best_step": learner.best_step,
        "parameters": parameter_count(generator),
        **_measured(recipe, best, examples, held_out),
    }
    folder.write_metrics(metrics)
    if recipe.sample.each and not interrupted:
        folder.draw_samples(best, recipe.sample, recipe.seed)
    progress.say(_ending(metrics, interrupted, folder))
    return Run(folder.path, best, metrics, interrupted)


def choose_device(name: str) -> torch.device:
    """Return the device of a name; "auto" is the fastest there is.

    Raises:
        ConfigError: no such device.
    """
    if name == "auto":
        mps = torch.backends.mps.is_available()
        name = "cuda" if torch.cuda.is_available() else "mps" if mps else "cpu"
    try:
        return torch.zeros(1, device=name).device
    except (RuntimeError, AssertionError, NotImplementedError):
        raise ConfigError(
            f"device={name!r} is not accepted: device must be one that this machine has"
        ) from None


def _measured(
    recipe: Recipe, pipeline: Pipeline, train: Examples, held_out: Examples
) -> dict[str, Any]:
    """Return held-out measurements of the trained generator, beside the baselines."""
    batch = recipe.budget.batch
    wrong = shuffled_condition(held_out, seeded(recipe.seed, "shuffled condition"))
    codes = pipeline.tokenizer.codebook_size
    return {
        "held_out": held_out_loss(pipeline.generator, held_out, batch),
        "held_out_with_shuffled_condition": held_out_loss(pipeline.generator, wrong, batch),
        "baseline_bits_per_token": baselines(train.tokens, held_out.tokens, codes),
    }


def _ending(metrics: dict[str, Any], interrupted: bool, folder: RunFolder) -> str:
    """Return what is said when the run is over."""
    held_out = metrics["held_out"]
    bits = held_out.get("bits_per_token")
    measured = f"loss {held_out['loss']:.3f}" if bits is None else f"{bits:.3f} bits/token"
    beside = [f"{name} {value:.3f}" for name, value in metrics["baseline_bits_per_token"].items()]
    compared = f" ({', '.join(beside)})" if beside else ""
    stopped = "stopped by hand: the best state so far" if interrupted else "the best state"
    return (
        f"{stopped}, of step {metrics['best_step']} of {metrics['steps']}, is in {folder.path}\n"
        f"held-out {measured}{compared}"
    )
