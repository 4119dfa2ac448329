"""A device that is only pretended: its tensors say they lie elsewhere, and lie on the CPU.

It is as strict as Apple's MPS: it knows no float64, its tensors do not mix with those of the CPU,
and random generators of the CPU do not serve it. Code is held to that where there is no such
device.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any
from unittest import mock

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("meta")  # the one kind of device, beside the CPU, that torch always knows
CPU = torch.device("cpu")
WIDE = (torch.float64, torch.complex128)


class Pretended(Tensor):
    """A tensor that says it lies on `DEVICE`; `held` is where it really lies."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> Pretended:
        if held.dtype in WIDE:
            raise TypeError(f"{DEVICE} has no float64")
        self: Pretended = Tensor._make_wrapper_subclass(  # type: ignore[attr-defined]
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            device=DEVICE,
        )
        self.held = held
        return self

    def __repr__(self, *, tensor_contents: object = None) -> str:
        return f"Pretended({self.held!r})"

    def tolist(self) -> Any:
        return self.cpu().tolist()

    @classmethod
    def __torch_dispatch__(
        cls,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return compute(func, args, dict(kwargs or {}))


class _Computed(TorchDispatchMode):
    """Tensors that are not pretended yet may be moved to the device or made there."""

    def __torch_dispatch__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return compute(func, args, dict(kwargs or {}))


class _Given(TorchFunctionMode):
    """Numbers are put into a tensor of the CPU first: on this device torch would lose them."""

    def __torch_function__(
        self,
        func: Any,
        types: Sequence[type],
        args: Sequence[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        options = dict(kwargs or {})
        if func in (torch.tensor, torch.as_tensor):
            device = options.pop("device", None)
            made = func(*args, **options)
            return made if device is None else made.to(device)
        if func is Tensor.new_tensor:
            device = options.pop("device", args[0].device)
            return torch.tensor(args[1], dtype=options.get("dtype", args[0].dtype)).to(device)
        if func in (Tensor.__getitem__, Tensor.__setitem__):
            return func(args[0], _as_tensors(args[1]), *args[2:])
        return func(*args, **options)


def _as_tensors(index: Any) -> Any:
    """An index whose lists are tensors of the CPU."""
    if isinstance(index, tuple):
        return tuple(map(_as_tensors, index))
    if isinstance(index, list):
        return torch.tensor(index) if index else torch.empty(0, dtype=torch.int64)
    return index


@contextmanager
def pretended_device() -> Iterator[torch.device]:
    """Make the device available, and return it."""

    def of_the_cpu(function: Any) -> Any:
        """What torch offers for the devices that it knows to compute."""

        def called(device: str = "cpu", *args: Any, **options: Any) -> Any:
            return function("cpu" if device == DEVICE.type else device, *args, **options)

        return called

    names = ("autocast", "is_autocast_enabled", "get_autocast_dtype")
    patched = {name: of_the_cpu(getattr(torch, name)) for name in names}
    with mock.patch.multiple(torch, **patched), _Given(), _Computed():
        yield DEVICE


COPIES = ("aten::copy_", "aten::_to_copy")
INDEXING = ("aten::index", "aten::index_put", "aten::index_put_")  # indices may lie on the CPU


def compute(func: Any, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Compute on the CPU what is asked of either device.

    Raises:
        TypeError: float64 on the pretended device, even on its way to the CPU.
        RuntimeError: tensors of both devices in one computation, or a random generator of another.
    """
    tensors = [value for value in tree_leaves((args, kwargs)) if isinstance(value, Tensor)]
    mine = [tensor for tensor in tensors if isinstance(tensor, Pretended)]
    others = [tensor for tensor in tensors if not isinstance(tensor, Pretended) and tensor.dim()]
    if any(tensor.device.type == DEVICE.type for tensor in others):
        raise AssertionError(f"{func} was given a tensor of {DEVICE} that holds nothing")
    device = kwargs.get("device")
    there = bool(mine) if device is None else torch.device(device).type == DEVICE.type
    name = func._schema.name
    indexed = name in INDEXING and isinstance(args[0], Pretended)
    if mine and others and name not in COPIES and not indexed:
        raise RuntimeError(f"{name} takes tensors of both {DEVICE} and the CPU")
    if there and kwargs.get("generator") is not None:
        raise RuntimeError(f"{name} on {DEVICE} takes no random generator of the CPU")
    if device is not None:
        kwargs["device"] = CPU
    held_args, held_kwargs = tree_map(_held, (tuple(args), kwargs))
    result = func(*held_args, **held_kwargs)
    if mine and any(t.dtype in WIDE for t in tree_leaves(result) if isinstance(t, Tensor)):
        raise TypeError(f"{name}: {DEVICE} has no float64")
    if not there or (name == "aten::copy_" and not isinstance(args[0], Pretended)):
        return result
    known = {id(tensor.held): tensor for tensor in mine}  # what is changed in place stays itself

    def wrapped(value: Any) -> Any:
        if not isinstance(value, Tensor):
            return value
        return known[id(value)] if id(value) in known else Pretended(value)

    return tree_map(wrapped, result)


def _held(value: Any) -> Any:
    return value.held if isinstance(value, Pretended) else value
