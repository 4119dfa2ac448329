"""The whole state of a run in one file, from which it goes on to the bit.

`checkpoints/step-00000120.safetensors` holds weights, optimizers' moments, averages and what else a
task remembers; numbers and what the state belongs to stand in its header. Random numbers and the
order of pictures depend on the seed and the step alone, so nothing of them is saved.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from limner.core.errors import CheckpointError, DataError
from limner.core.files import replaced

logger = logging.getLogger(__name__)

_NAME = re.compile(r"step-(\d+)\.safetensors")


@dataclass(frozen=True, eq=False)
class State:
    """Where a run stands.

    Args:
        tensors: name -> tensor on the CPU.
        facts: numbers and texts, as JSON holds them.
    """

    tensors: Mapping[str, Tensor]
    facts: Mapping[str, Any]

    def under(self, prefix: str) -> dict[str, Tensor]:
        """Return the tensors whose names begin with a prefix, without it."""
        begin = len(prefix)
        return {n[begin:]: tensor for n, tensor in self.tensors.items() if n.startswith(prefix)}


class Checkpoints:
    """The states of a run on disk.

    Args:
        folder: of the run.
        keep: how many are kept.
    """

    def __init__(self, folder: Path, keep: int) -> None:
        self.folder = folder / "checkpoints"
        self.keep = keep

    def steps(self) -> list[int]:
        """Return the steps that there are states of, rising."""
        if not self.folder.is_dir():
            return []
        names = (_NAME.fullmatch(file.name) for file in self.folder.iterdir())
        return sorted(int(name[1]) for name in names if name)

    def write(self, step: int, state: State) -> None:
        """Write a state whole or not at all, then remove those that are too many.

        Raises:
            CheckpointError: it cannot be written, on a full disk for instance; the earlier ones are
                as they were.
        """
        tensors = {name: tensor.contiguous() for name, tensor in state.tensors.items()}
        try:
            with replaced(self._file(step)) as temporary:
                save_file(tensors, temporary, metadata={"state": json.dumps(dict(state.facts))})
        except (SafetensorError, OSError, DataError) as error:
            kept = [earlier for earlier in self.steps() if earlier < step]
            latest = f"that of step {kept[-1]} is intact" if kept else "there is none before it"
            raise CheckpointError(
                f"the state of step {step} cannot be written to {self.folder}: {error}; {latest}"
            ) from None
        for old in self.steps()[: -self.keep]:
            self._file(old).unlink(missing_ok=True)

    def latest(self) -> State | None:
        """Return the latest state that can be read; None: there is none."""
        for step in reversed(self.steps()):
            try:
                with safe_open(self._file(step), framework="pt") as file:
                    tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
                    return State(tensors, json.loads(file.metadata()["state"]))
            except (SafetensorError, OSError, ValueError, KeyError, TypeError) as error:
                logger.warning("%s is passed over: %s", self._file(step), error)
        return None

    def _file(self, step: int) -> Path:
        return self.folder / f"step-{step:08}.safetensors"
