"""What a step really computes: its products and convolutions, counted while it runs.

For subjects whose steps are too varied to be counted by hand. What a step computes needlessly is
counted too, so a ceiling of such work says how quickly these operations could be done.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from limner.bench.work import Convolution, Operation, Product, Work

FEW_ROWS = 32
"""Products of fewer rows wait for their weights, which are counted as read."""


class Counter(TorchDispatchMode):
    """Counts what is computed while it is active.

    Args:
        reads: weights are too many for caches, and are read again for every small product.

    Attributes:
        work: what was counted.
    """

    def __init__(self, reads: bool = False) -> None:
        super().__init__()
        self.reads = reads
        self.work = Work()

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        """Do an operation, and count it."""
        found = func(*args, **(kwargs or {}))
        name = f"{func.namespace}::{func.overloadpacket.__name__}"
        if name in _OPERATIONS:
            for operation in _OPERATIONS[name](args, found):
                self.work.add(operation)
                if self.reads and isinstance(operation, Product) and operation.batch == 1:
                    self._read(operation)
        return found

    def _read(self, product: Product) -> None:
        small, *_, large = sorted((product.rows, product.columns))
        if small < FEW_ROWS:
            self.work.read += 4 * product.inner * large


def counted(step: Callable[[], object], reads: bool = False) -> Work:
    """Return what a step computes; see `Counter`."""
    with Counter(reads) as counter:
        step()
    return counter.work


def _product(left: Tensor, right: Tensor) -> Iterator[Operation]:
    yield Product(left.shape[0], left.shape[1], right.shape[1])


def _batched(left: Tensor, right: Tensor) -> Iterator[Operation]:
    yield Product(left.shape[1], left.shape[2], right.shape[2], batch=left.shape[0])


def _linear(x: Tensor, weight: Tensor) -> Iterator[Operation]:
    yield Product(x.numel() // x.shape[-1], x.shape[-1], weight.shape[0])


def _attention(query: Tensor, key: Tensor) -> Iterator[Operation]:
    pairs, width = query.shape[0] * query.shape[1], query.shape[3]
    yield Product(query.shape[2], width, key.shape[2], batch=pairs)
    yield Product(query.shape[2], key.shape[2], width, batch=pairs)


def _attention_backward(query: Tensor, key: Tensor) -> Iterator[Operation]:
    """A second product of the scores' shape, and three of the others'."""
    scores, mixed = _attention(query, key)
    yield from (scores, scores, mixed, mixed, mixed)


def _convolution(weight: Tensor, found: Tensor, stride: Any) -> Iterator[Operation]:
    if found.dim() == 4:
        outputs, inputs, kernel, _ = weight.shape
        batch, _, height, width = found.shape
        yield Convolution(batch, inputs, outputs, height, width, kernel, stride[0])


_Count = Callable[[tuple[Any, ...], Any], Iterator[Operation]]

_OPERATIONS: dict[str, _Count] = {
    "aten::mm": lambda args, found: _product(args[0], args[1]),
    "aten::addmm": lambda args, found: _product(args[1], args[2]),
    "aten::bmm": lambda args, found: _batched(args[0], args[1]),
    "aten::baddbmm": lambda args, found: _batched(args[1], args[2]),
    "aten::linear": lambda args, found: _linear(args[0], args[1]),
    "mkldnn::_linear_pointwise": lambda args, found: _linear(args[0], args[1]),
    "limner::product": lambda args, found: _linear(args[0], args[1]),
    "limner::layer": lambda args, found: _linear(args[0], args[1]),
    "aten::convolution": lambda args, found: _convolution(args[1], found, args[3]),
    # by Winograd's minimal filtering, counted as a plain one
    "limner::convolution3x3": lambda args, found: _convolution(args[1], found, (1, 1)),
    "limner::add_convolution3x3": lambda args, _: _convolution(args[2], args[0], (1, 1)),
}
for _kernel in ("flash_attention_for_cpu", "flash_attention", "efficient_attention"):
    _OPERATIONS[f"aten::_scaled_dot_product_{_kernel}"] = lambda args, found: _attention(
        args[0], args[1]
    )
    _OPERATIONS[f"aten::_scaled_dot_product_{_kernel}_backward"] = lambda args, found: (
        _attention_backward(args[1], args[2])
    )
