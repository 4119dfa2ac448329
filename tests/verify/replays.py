"""What tests of replays have in common: what fails, and cases that are not as they were."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors.torch import load_file, save_file
from torch import Tensor

from limner.verify import verify


def failures(folder: Path) -> set[str]:
    """Replay a case and return the names of the outputs that are not reproduced."""
    report = verify([folder], write=lambda line: None)
    return {line.name for case in report.cases for line in case.lines if not line.outcome.ok}


@contextmanager
def changed_case(case: Path, folder: Path) -> Iterator[dict[str, Tensor]]:
    """Copy a case to a new folder and yield its tensors; what becomes of them is written there."""
    shutil.copytree(case, folder)
    tensors = load_file(folder / "io.safetensors")
    yield tensors
    save_file(tensors, folder / "io.safetensors")
