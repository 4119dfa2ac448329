"""How many passes of a trained MAR does a draft save, if what is drawn must be the MAR's?

    limner train mar/tiny --output runs/mar
    python benchmarks/speculation.py runs/mar runs/draft [--seconds 300] [--pictures 48]

makes the draft in runs/draft where it is missing: the target with one block of each of its stacks
(the first that reads, the last that tells) and its head, whose network then learns the target's
outputs. Then the same classes are drawn by the target alone, in the exact mode, and by a rule that
keeps every draft, from seeds of their own. A permutation test of the energy distance between their
tokens says whether the last two can be told from the first. Writes
benchmarks/results/speculation.json.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from record import circumstances, write
from torch import Tensor

from limner.core.memory import NoMemory
from limner.core.seeds import seeded
from limner.core.tokens import from_values
from limner.data.source import collect
from limner.decoding.blocks import SpeculationConfig
from limner.decoding.speculation import Tally
from limner.heads import acceptance
from limner.models.mar import MAR
from limner.orders.masking import random_mask
from limner.pipeline import Pipeline
from limner.training import load_recipe
from limner.training.prepare import split

BATCH, LEARNING_RATE = 64, 1e-3
DEALS = 1000  # ways to deal pictures to two groups
DRAFTS = 4


def shrunk(target: MAR) -> MAR:
    """Return a target with one block of each stack, and the same other weights."""
    one = {name: replace(getattr(target.config, name), depth=1) for name in ("encoder", "decoder")}
    draft = MAR(replace(target.config, **one))
    last = f"decoder.{target.config.decoder.depth - 1}."
    weights = {name.replace(last, "decoder.0."): part for name, part in _kept(target, last)}
    draft.load_state_dict(weights)
    return draft


def _kept(target: MAR, last: str) -> list[tuple[str, Tensor]]:
    def stays(name: str) -> bool:
        stack = name.partition(".")[0]
        return stack not in ("encoder", "decoder") or name.startswith((last, "encoder.0."))

    return [(name, part) for name, part in target.state_dict().items() if stays(name)]


def distil(pipeline: Pipeline, recipe: Path, seconds: float) -> MAR:
    """Return a draft that has learned the outputs of a pipeline's generator."""
    target: Any = pipeline.generator
    draft, rng = shrunk(target), seeded(0, "draft")
    for part in draft.head.parameters():
        part.requires_grad_(False)
    data = load_recipe(recipe).data
    assert data is not None
    pictures = collect(split(data)[0], data.size)
    with torch.no_grad():
        values = pipeline.tokenizer.encode(pictures.to_float(torch.arange(len(pictures)))).values
    assert values is not None
    layout = pipeline.tokenizer.layout(data.size, data.size)
    optimizer = torch.optim.Adam([p for p in draft.parameters() if p.requires_grad], LEARNING_RATE)
    begun, step = time.monotonic(), 0
    while (share := (time.monotonic() - begun) / seconds) < 1:
        for group in optimizer.param_groups:
            group["lr"] = LEARNING_RATE * min(1.0, 2 - 2 * share)
        index = torch.randint(len(values), (BATCH,), generator=rng)
        condition = {"label": pictures.labels[index]}
        condition = target.condition.drop(condition, target.config.condition_dropout, rng)
        masked = random_mask(BATCH, len(layout), target.config.least_masked, rng, spread_out=False)
        tokens = from_values(layout, values[index])
        with torch.no_grad():
            wanted = target.head.denoiser.condition(
                target(target.masked(tokens, condition, masked), NoMemory())
            )
        told = draft.head.denoiser.condition(
            draft(draft.masked(tokens, condition, masked), NoMemory())
        )
        loss = (told - wanted).square().mean(-1)[masked].mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        step += 1
    print(f"the draft is off by {float(loss.detach()):.4f} after {step} steps")
    return draft.eval()


def chance(x: Tensor, y: Tensor) -> float:
    """Return how often dealing rows [n, D] to two groups sets them as far apart as they are."""
    both = torch.cat([x, y])
    apart = torch.cdist(both, both)
    rng = seeded(0, "deals")

    def distance(order: Tensor) -> float:
        a, b = order[: len(x)], order[len(x) :]
        within = apart[a][:, a].mean() + apart[b][:, b].mean()
        return float(2 * apart[a][:, b].mean() - within)

    seen = distance(torch.arange(len(both)))
    deals = [distance(torch.randperm(len(both), generator=rng)) for _ in range(DEALS)]
    return (1 + sum(each >= seen for each in deals)) / (1 + DEALS)


def draw(pipeline: Pipeline, seed: int, pictures: int, steps: int) -> Tensor:
    """Return the tokens of pictures of classes in turn, float [n, N D]."""
    names = [pipeline.classes[index % len(pipeline.classes)] for index in range(pictures)]
    values = pipeline(classes=names, seed=seed, steps=steps).tokens.values
    assert values is not None
    return values.flatten(1)


def with_last_noise(target: Any) -> None:
    """Let a generator draw the noise of its last denoising step too, as the exact mode does."""
    begin = target.begin
    target.begin = lambda tokens, condition, options, noise: begin(
        tokens, condition, replace(options, last_noise=True), noise
    )


def measure(target: Pipeline, draft: Pipeline, pictures: int, steps: int) -> dict[str, Any]:
    """Return passes, acceptance and the chances of both rules."""
    exact = target.with_draft(draft, SpeculationConfig(drafts=DRAFTS, ratio=0.0))
    tally = Tally()
    exact.generator.head.watches.append(tally)  # type: ignore[attr-defined]
    drawn = draw(exact, 1000, pictures, steps)
    exact.generator.head.watches.clear()  # type: ignore[attr-defined]
    acceptance.keeps = lambda log_ratio, uniform: torch.ones_like(log_ratio) > 0
    broken = draw(exact, 1000, pictures, steps)
    with_last_noise(target.generator)
    alone = draw(target, 0, pictures, steps)
    return {
        "steps": steps,
        "drafts": DRAFTS,
        "target_passes": tally.target_passes / pictures,
        "fewer": steps * pictures / tally.target_passes,
        "accepted": tally.accepted / max(1, tally.accepted + tally.rejected),
        "chance_exact": chance(alone, drawn),
        "chance_keeping_every_draft": chance(alone, broken),
    }


def main() -> None:
    """Make the draft, measure, and write the figures."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("target", type=Path)
    parser.add_argument("draft", type=Path)
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--pictures", type=int, default=48)
    parser.add_argument("--steps", type=int, default=64)
    arguments = parser.parse_args()
    target = Pipeline.from_pretrained(arguments.target)
    if not arguments.draft.exists():
        draft = distil(target, arguments.target / "recipe.yaml", arguments.seconds)
        target.with_generator(draft).save_pretrained(arguments.draft)
    small = Pipeline.from_pretrained(arguments.draft)
    found = measure(target, small, arguments.pictures, arguments.steps)
    sizes = {
        name: sum(part.numel() for part in pipeline.generator.parameters())
        for name, pipeline in (("target", target), ("draft", small))
    }
    result = circumstances(f"python benchmarks/speculation.py {' '.join(sys.argv[1:])}")
    whole = {**result, "pictures": arguments.pictures, "parameters": sizes, **found}
    write("speculation", whole)
    print(json.dumps(found, indent=1))


if __name__ == "__main__":
    main()
