"""Modules without weights, and their weights put into place without a second copy in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from limner.core.errors import CheckpointError
from limner.core.registry import Family


@contextmanager
def weightless() -> Iterator[None]:
    """Build modules on the meta device: their tensors have shapes and no memory."""
    with torch.device("meta"), _Unfilled():
        yield


def blank(family: Family, config: Any) -> Any:
    """Build a module whose weights take no memory, to be filled by `fill`.

    A module that computes tensors of its own which are not weights (buffers that are not saved)
    is built with memory instead, as those could not be filled.
    """
    with weightless():
        module = family.build(config)
    return family.build(config) if _computes(module) else module


def parameter_count(module: nn.Module) -> int:
    """Return the number of parameters; a parameter that is used twice counts once."""
    return sum(parameter.numel() for parameter in module.parameters())


def tied(module: nn.Module) -> list[list[str]]:
    """Return the names of every saved tensor, those of one shared tensor together."""
    names: dict[int, list[str]] = {}
    for name, tensor in module.state_dict(keep_vars=True).items():
        names.setdefault(id(tensor), []).append(name)
    return list(names.values())


def fill(module: nn.Module, tensors: Mapping[str, Tensor], source: str) -> None:
    """Make `tensors` the module's weights; a shared weight may be given under any of its names.

    Args:
        module: as `blank` returns it.
        tensors: name -> tensor, used as they are.
        source: where they come from, for messages.

    Raises:
        CheckpointError: tensors are missing, left over or of another shape.
    """
    state: dict[str, Tensor] = {}
    expected = module.state_dict(keep_vars=True)
    for names in tied(module):
        given = next((tensors[name] for name in names if name in tensors), None)
        if given is None:
            continue
        if isinstance(expected[names[0]], nn.Parameter):
            trained = given.is_floating_point() or given.is_complex()
            given = nn.Parameter(given, requires_grad=trained)
        state.update(dict.fromkeys(names, given))
    check_fits(expected, {**tensors, **state}, source)
    module.load_state_dict(state, strict=True, assign=True)


def check_fits(expected: Mapping[str, Tensor], given: Mapping[str, Tensor], source: str) -> None:
    """Raise unless both hold the same names and shapes.

    Raises:
        CheckpointError: names up to five tensors of each kind of misfit.
    """
    problems = []
    if missing := expected.keys() - given.keys():
        problems.append(f"missing: {shown(missing)}")
    if unexpected := given.keys() - expected.keys():
        problems.append(f"unexpected: {shown(unexpected)}")
    other = [
        f"{name} is {list(given[name].shape)}, the model needs {list(tensor.shape)}"
        for name, tensor in expected.items()
        if name in given and given[name].shape != tensor.shape
    ]
    if other:
        problems.append(f"of another shape: {shown(other)}")
    if problems:
        raise CheckpointError(f"{source} does not fit the configuration; {'; '.join(problems)}")


def shown(names: Iterable[str]) -> str:
    """Return up to five names for a message, and how many there are."""
    listed = sorted(names)
    return ", ".join(listed[:5]) + (f", ... ({len(listed)} in all)" if len(listed) > 5 else "")


class _Unfilled(TorchFunctionMode):
    """Skips random initialisation on the meta device.

    There is nothing to fill, and PyTorch loads its compiler (seconds) for the first such call.
    """

    IN_PLACE = frozenset({Tensor.normal_, Tensor.erfinv_, Tensor.clamp_, Tensor.div_})

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Sequence[type],
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        kwargs = dict(kwargs or {})
        if func in self.IN_PLACE or getattr(func, "__module__", None) == "torch.nn.init":
            filled: Tensor = args[0] if args else kwargs["tensor"]
            if filled.is_meta:
                return filled
        if func is torch.randn and "device" not in kwargs:
            kwargs.pop("generator", None)
            return torch.empty(*args, **kwargs)
        return func(*args, **kwargs)


def _computes(module: nn.Module) -> bool:
    """Whether a module built on the meta device holds tensors that no checkpoint would fill."""
    saved = module.state_dict().keys()
    if any(name not in saved for name, _ in module.named_buffers(remove_duplicate=False)):
        return True
    attributes = (value for part in module.modules() for value in vars(part).values())
    return any(isinstance(value, Tensor) and value.is_meta for value in attributes)
