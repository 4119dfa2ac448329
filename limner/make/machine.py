"""The machine that is at hand, as far as it decides what can be trained on it."""

from __future__ import annotations

from dataclasses import dataclass

import psutil
import torch

from limner.pipeline.device import choose_device, cores


@dataclass(frozen=True)
class Machine:
    """What is at hand.

    Args:
        device: that is trained on.
        name: of the device, in words.
        memory: of the device, in GiB.
        cores: of the processor that this process may use.
    """

    device: str
    name: str
    memory: float
    cores: int

    @property
    def is_fast(self) -> bool:
        """Whether there is a GPU."""
        return self.device != "cpu"

    def __str__(self) -> str:
        return f"{self.name} ({self.memory:.0f} GiB), {self.cores} cores"


def look_at_machine(device: str = "auto") -> Machine:
    """Return what is at hand.

    Raises:
        ConfigError: no such device.
    """
    chosen = choose_device(device)
    if chosen.type == "cuda":
        properties = torch.cuda.get_device_properties(chosen)
        return Machine(str(chosen), properties.name, properties.total_memory / 2**30, cores())
    name = "Apple GPU" if chosen.type == "mps" else "CPU"
    return Machine(str(chosen), name, psutil.virtual_memory().total / 2**30, cores())
