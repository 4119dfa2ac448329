"""Keep a run's measurements: metrics.json with date, machine, commit and command beside it.

    python benchmarks/record.py RUN NAME --command "limner quickstart"

writes benchmarks/results/NAME.json, which the documentation reads its figures from.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
from collections.abc import Mapping
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

import torch

from limner.bench.circumstances import commit
from limner.core import cpu

RESULTS = Path(__file__).parent / "results"


def machine() -> dict[str, object]:
    """Return what the figures were measured on."""
    return {
        "processor": cpu.name(),
        "cores": os.cpu_count(),
        "system": platform.system(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }


def circumstances(command: str) -> dict[str, object]:
    """Return when, where and by what command something was measured."""
    return {
        "date": datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        "command": command,
        "commit": commit() or "unknown",
        "machine": machine(),
    }


def write(name: str, result: Mapping[str, Any]) -> Path:
    """Write benchmarks/results/NAME.json, and return where it is."""
    target = RESULTS / f"{name}.json"
    target.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    return target


def main() -> None:
    """Read the command line and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of the run, with metrics.json")
    parser.add_argument("name", help="of the result")
    parser.add_argument("--command", required=True, help="what was run")
    asked = parser.parse_args()
    metrics = json.loads((asked.run / "metrics.json").read_text())
    print(write(asked.name, circumstances(asked.command) | {"metrics": metrics}))


if __name__ == "__main__":
    main()
