"""What do windows cost on learned codes of photographs?

    python benchmarks/token_shuffle.py PHOTOGRAPHS [--tokenizer RUN]

trains a Token-Shuffle that writes single codes and one that writes windows of 2 x 2, by as many
updates, twice each, and writes benchmarks/results/token-shuffle.json: held-out nats a code, and
seconds of training. PHOTOGRAPHS is a folder with one sub-folder a class: ours was the first 10,000
of CIFAR-10, whose terms do not let it be shipped. The codes are those of a small tokenizer that
learns these photographs first.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

from record import RESULTS, circumstances

from limner.cli import main as limner

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
    nats = found["held_out"]["cross_entropy"]
    return {"seed": seed, "nats_a_code": round(nats, 4), "seconds": found["seconds"]}


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
        psnr = json.loads((codes / "metrics.json").read_text())["held_out"]
    single, windows = (
        sum(run["nats_a_code"] for run in runs) / len(SEEDS) for runs in found.values()
    )
    result = {
        **circumstances("python benchmarks/token_shuffle.py PHOTOGRAPHS"),
        "updates": UPDATES,
        "tokenizer": psnr,
        "runs": found,
        "ratio": round(windows / single, 4),
    }
    (RESULTS / "token-shuffle.json").write_text(
        json.dumps(result, indent=1) + "\n", encoding="utf-8"
    )


if __name__ == "__main__":
    main()
