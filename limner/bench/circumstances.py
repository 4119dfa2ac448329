"""When, where and by what command something was measured."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import dataclass
from datetime import datetime, timezone
from importlib.metadata import version
from pathlib import Path

import torch

import limner
from limner.core import cpu
from limner.pipeline.device import cores


@dataclass(frozen=True)
class Circumstances:
    """What a measurement holds for.

    Args:
        date: day, in UTC.
        command: that measured.
        commit: of limner's source, "-dirty" where files were changed; None: not in a repository.
        limner: version.
        torch: version.
        python: version.
        processor: name.
        cores: that this process may use.
        accelerator: name of the GPU; None: none took part.
    """

    date: str
    command: str
    commit: str | None
    limner: str
    torch: str
    python: str
    processor: str
    cores: int
    accelerator: str | None = None


def present(command: str, device: str = "cpu") -> Circumstances:
    """Return the circumstances now, of something that was measured on a device."""
    return Circumstances(
        date=datetime.now(timezone.utc).strftime("%Y-%m-%d"),
        command=command,
        commit=commit(),
        limner=limner.__version__,
        torch=version("torch"),
        python=platform.python_version(),
        processor=cpu.name(),
        cores=cores(),
        accelerator=torch.cuda.get_device_name(device) if device.startswith("cuda") else None,
    )


def commit() -> str | None:
    """Return the commit of limner's source, "-dirty" where files were changed, or None."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():  # installed, maybe inside of another repository
        return None
    command = ["git", "describe", "--always", "--dirty", "--abbrev=7", "--exclude=*"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=root, check=False)
    except OSError:  # no git
        return None
    return done.stdout.strip() or None
