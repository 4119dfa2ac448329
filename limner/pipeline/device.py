"""Devices by name."""

from __future__ import annotations

import os

import torch

from limner.core.errors import ConfigError


def cores() -> int:
    """Return how many processor cores this process may use."""
    affinity = getattr(os, "sched_getaffinity", None)  # Linux has it
    return len(affinity(0)) if affinity is not None else os.cpu_count() or 1


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
