"""The machine of a run: its device, its processes, and how networks are spread over them.

`accelerate` finds out how the process was started (alone, by `accelerate launch` or `torchrun`) and
sets the processes up; networks are replicated (DDP) or sharded (FSDP2). Everything else in a run
sees one network and one process.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState, PartialState
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor
from torch.nn.parallel import DistributedDataParallel

from limner.core.errors import ConfigError
from limner.pipeline.device import choose_device

_DEVICE = "ACCELERATE_TORCH_DEVICE"


class Engine:
    """The processes of a run and the device of this one.

    Args:
        device: name of the device; "auto" is the fastest there is.
        precision: "float32", or "bfloat16" for matrix products.
        parallel: "ddp" or "fsdp", where there are several processes.
        trackers: "tensorboard", "wandb", "trackio": where measurements go.
        folder: for trackers that write files.

    Attributes:
        rank: number of this process.
        ranks: their number.
        device: of this process.

    Raises:
        ConfigError: no such device, or a tracker whose package is not installed.
    """

    def __init__(
        self,
        device: str = "auto",
        precision: str = "float32",
        parallel: str = "ddp",
        trackers: Sequence[str] = (),
        folder: str | os.PathLike[str] | None = None,
    ) -> None:
        _check_trackers(trackers)
        self.accelerator = _accelerator(device, log_with=list(trackers) or None, project_dir=folder)
        device_of_process = self.accelerator.device
        is_cpu = device_of_process.type == "cpu"  # which has an index in launched processes
        self.device = torch.device("cpu") if is_cpu else device_of_process
        self.rank = self.accelerator.process_index
        self.ranks = self.accelerator.num_processes
        self.precision = precision
        self.parallel = parallel

    @property
    def is_main(self) -> bool:
        """Whether this process writes files and speaks."""
        return self.rank == 0

    def spread(self, module: nn.Module) -> nn.Module:
        """Return a module that is called in place of `module` in training.

        With several processes it averages gradients over them. A sharded module keeps only this
        process's part of the weights of every block.
        """
        module.to(self.device)
        if self.ranks == 1:
            return module
        if self.parallel == "ddp":
            ids = [self.device] if self.device.type == "cuda" else None
            # which weights take part depends on what is drawn: a null text, say
            return DistributedDataParallel(module, device_ids=ids, find_unused_parameters=True)
        for block in _blocks(module):
            fully_shard(block)
        fully_shard(module)
        return module

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """Matrix products in bfloat16 where the recipe asks for it."""
        if self.precision == "float32":
            return contextlib.nullcontext()
        return torch.autocast(self.device.type, dtype=torch.bfloat16)

    @contextlib.contextmanager
    def last_piece(self, spread: nn.Module, last: bool) -> Iterator[None]:
        """Exchange gradients in the backward pass of the last piece of a batch only."""
        if last or self.ranks == 1:
            yield
        elif isinstance(spread, DistributedDataParallel):
            with spread.no_sync():
                yield
        else:
            assert isinstance(spread, FSDPModule)
            spread.set_requires_gradient_sync(False)
            yield
            spread.set_requires_gradient_sync(True)

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all processes."""
        if self.ranks == 1:
            return values
        mean: Tensor = self.accelerator.reduce(values.to(self.device), reduction="mean")
        return mean

    def total(self, values: Tensor) -> Tensor:
        """Return the sum over all processes."""
        if self.ranks == 1:
            return values
        total: Tensor = self.accelerator.reduce(values.to(self.device), reduction="sum")
        return total

    def joined(self, values: Tensor) -> Tensor:
        """Return the values [n, ...] of all processes, one after the other, [ranks n, ...]."""
        if self.ranks == 1:
            return values
        joined: Tensor = self.accelerator.gather(values.to(self.device))
        return joined

    def agreed(self, value: float) -> float:
        """Return the value of the main process."""
        if self.ranks == 1:
            return value
        shared = torch.tensor([value if self.is_main else 0.0], dtype=torch.float32)
        return float(self.total(shared.to(self.device)))

    def wait(self) -> None:
        """Wait for all processes."""
        self.accelerator.wait_for_everyone()

    @contextlib.contextmanager
    def main_first(self) -> Iterator[None]:
        """Let the main process do something before the others do."""
        with self.accelerator.main_process_first():
            yield

    def begin_tracking(self, name: str, facts: Mapping[str, str]) -> None:
        """Open the trackers; `facts` describe the run."""
        if self.accelerator.log_with:
            self.accelerator.init_trackers(name, config=dict(facts))

    def track(self, values: Mapping[str, float], step: int) -> None:
        """Send measurements of a step to the trackers."""
        if self.accelerator.log_with:
            self.accelerator.log(dict(values), step=step)

    def end_tracking(self) -> None:
        """Close the trackers."""
        if self.accelerator.log_with:
            self.accelerator.end_training()


def whole(tensor: Tensor) -> Tensor:
    """Return a tensor, or all parts of a sharded one, detached and on the CPU.

    All processes must call it for a sharded one.
    """
    tensor = tensor.detach()
    gathered = tensor.full_tensor() if isinstance(tensor, DTensor) else tensor
    return gathered.cpu()


def copy_into(tensor: Tensor, value: Tensor) -> None:
    """Write a whole value into a tensor, or into this process's part of a sharded one."""
    with torch.no_grad():
        if isinstance(tensor, DTensor):
            value = distribute_tensor(
                value.to(tensor.device), tensor.device_mesh, tensor.placements
            )
        tensor.copy_(value)


def _accelerator(device: str, **options: Any) -> Accelerator:
    """Return an accelerator on a device; a launched process keeps the one it was given."""
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        return Accelerator(cpu=device == "cpu" or not torch.cuda.is_available(), **options)
    chosen = choose_device(device)
    before = os.environ.get(_DEVICE)
    os.environ[_DEVICE] = str(chosen)
    try:
        if PartialState().device != chosen:  # of an earlier run in this process
            AcceleratorState._reset_state(reset_partial_state=True)
        return Accelerator(cpu=chosen.type == "cpu", **options)
    finally:
        os.environ.pop(_DEVICE)
        os.environ.update({} if before is None else {_DEVICE: before})


def _check_trackers(names: Sequence[str]) -> None:
    if not names:
        return
    from accelerate.tracking import get_available_trackers

    installed = {str(tracker) for tracker in get_available_trackers()}
    missing = [name for name in names if name not in installed]
    if missing:
        raise ConfigError(
            f"trackers={list(names)} is not accepted: {missing[0]} is not installed "
            f"(`pip install {missing[0]}`)"
        )


def _blocks(module: nn.Module) -> Iterator[nn.Module]:
    """The repeated blocks of a network: all that stand in lists of modules."""
    for part in module.modules():
        if isinstance(part, nn.ModuleList):
            yield from part
