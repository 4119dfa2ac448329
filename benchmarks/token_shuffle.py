"""What do windows cost on learned codes of photographs?

    python benchmarks/token_shuffle.py PHOTOGRAPHS [--tokenizer RUN]

trains a Token-Shuffle that writes single codes and one that writes windows of 2 x 2, by as many
updates, twice each, and writes benchmarks/results/token-shuffle.json: held-out nats a code, seconds
of training with all around it, and of an update alone. PHOTOGRAPHS is a folder with one sub-folder
a class: ours was the first 10,000 of CIFAR-10, whose terms do not let it be shipped. The codes are
those of a small tokenizer that learns these photographs first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from statistics import fmean, median_high
from typing import Any

import torch
from record import circumstances, write

from limner.cli import main as limner
from limner.core.layout import grid
from limner.core.registry import MODELS
from limner.core.request import Request
from limner.core.tokens import from_ids
from limner.hub.save import load_part

CODES, TOKENIZER_STEPS = 1024, 1200
UPDATES, SEEDS = 600, (0, 1)
WINDOWS = {"single codes": "null", "windows of 2 x 2": "2"}


def train(recipe: str, output: Path, *fields: object) -> dict[str, Any]:
    """Train a recipe with other fields, and return what was measured."""
    if limner(["train", recipe, *map(str, fields), "--output", str(output)]) != 0:
        raise SystemExit(f"{recipe} could not be trained")
    metrics: dict[str, Any] = json.loads((output / "metrics.json").read_text())
    return metrics


def train_tokenizer(photographs: str, output: Path) -> None:
    """Train the tokenizer."""
    size = ("--tokenizer.config.codebook_size", CODES, "--budget.steps", TOKENIZER_STEPS)
    train("llamagen/vq-tiny", output, "--data.source", photographs, *size)


def measured(photographs: str, codes: Path, window: str, seed: int, output: Path) -> dict[str, Any]:
    """Train one generator, and return its measurements."""
    data = ("--data.source", photographs, "--data.views", "{kind: mirror}")
    budget = ("--budget.seconds", "null", "--budget.steps", UPDATES, "--evaluations", 1)
    tokenizer = ("--tokenizer", f"{{weights: {codes / 'tokenizer'}}}")
    model = ("--model.config.window", window, "--seed", seed)
    found = train("token-shuffle/tiny", output, *data, *budget, *tokenizer, *model)
    return {
        "seed": seed,
        "nats_a_code": round(found["held_out"]["cross_entropy"], 4),
        "seconds": found["seconds"],
        "update_seconds": round(update_seconds(output / "model"), 4),
    }


def update_seconds(model: Path, count: int = 10) -> float:
    """Return the (upper) median seconds of one update of a trained generator, on random codes."""
    network, rng = load_part(model, MODELS).train(), torch.Generator().manual_seed(0)
    optimizer = torch.optim.AdamW(network.parameters(), 1e-4)
    tokens = from_ids(grid(8, 8), torch.randint(CODES, (32, 64), generator=rng))
    asked = network.condition.ask(Request(32, prompts=["frog"] * 32))
    seconds = []
    for _ in range(count):
        begun = time.perf_counter()
        optimizer.zero_grad()
        network.loss(tokens, asked, rng).total.backward()
        optimizer.step()
        seconds.append(time.perf_counter() - begun)
    return median_high(seconds)


def main() -> None:
    """Train, compare and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photographs", help="folder with one sub-folder a class")
    parser.add_argument("--tokenizer", type=Path, help="run of a tokenizer trained as here")
    asked = parser.parse_args()
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in WINDOWS}
    with tempfile.TemporaryDirectory() as folder:
        codes = asked.tokenizer or Path(folder, "tokenizer")
        if asked.tokenizer is None:
            train_tokenizer(asked.photographs, codes)
        for seed in SEEDS:
            for name, window in WINDOWS.items():
                output = Path(folder, f"{window}-{seed}")
                found[name].append(measured(asked.photographs, codes, window, seed, output))
        tokenizer = json.loads((codes / "metrics.json").read_text())["held_out"]
    single, windows = (fmean(run["nats_a_code"] for run in runs) for runs in found.values())
    result = {
        **circumstances("python benchmarks/token_shuffle.py PHOTOGRAPHS"),
        "updates": UPDATES,
        "tokenizer": tokenizer,
        "runs": found,
        "ratio": round(windows / single, 4),
    }
    write("token-shuffle", result)


if __name__ == "__main__":
    main()
