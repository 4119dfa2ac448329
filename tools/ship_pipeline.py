"""Write a trained pipeline into the package, in half precision.

    python -m tools.ship_pipeline RUN NAME

Nothing is written if all that is shipped would be larger than 15 MB.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path

import torch

from limner.hub.shipped import SHIPPED
from limner.pipeline import Pipeline

MOST = 15_000_000  # bytes


def ship(run: str, name: str, to: Path = SHIPPED) -> int:
    """Write the pipeline of a run as `to/name`, and return the bytes of all that is there."""
    pipeline = Pipeline.from_pretrained(run)
    pipeline.tokenizer.half()
    pipeline.generator.half()
    with tempfile.TemporaryDirectory() as parent:
        pipeline.save_pretrained(Path(parent) / name)
        others = [f for f in to.rglob("*") if f.is_file() and f.relative_to(to).parts[0] != name]
        files = [*others, *(file for file in Path(parent).rglob("*") if file.is_file())]
        total = sum(file.stat().st_size for file in files)
        if total > MOST:
            raise SystemExit(f"{total:,} bytes are too many: at most {MOST:,}")
    pipeline.save_pretrained(to / name)
    return total


def main() -> None:
    """Read the command line, write, and say what was written."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", help="folder of a run")
    parser.add_argument("name", help="what it is called in the package")
    arguments = parser.parse_args()
    total = ship(arguments.run, arguments.name)
    json.dump({"bytes": total, "torch": torch.__version__}, sys.stdout)
    print()


if __name__ == "__main__":
    main()
