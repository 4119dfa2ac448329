"""What a machine can do: operations measured alone, by the fastest way that is known.

A ceiling is the shortest of several runs: it is not to be missed because the machine was busy.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from limner.bench.subject import now
from limner.bench.work import Convolution, Operation, Product, Work
from limner.layers.linear import linear

RUNS = 7
FEWEST_RUNS, ENOUGH = 3, 0.25  # of a long operation, and the seconds after which no more are done
IN_A_ROW = 20  # runs of an operation on a GPU
_NUMBERS = 2**26  # of an array whose copy shows memory's speed: far more than caches hold


@dataclass(frozen=True)
class Rate:
    """How fast one operation is alone.

    Args:
        operation: in words.
        times: how many of it a step has.
        gflops: billions of multiplications and additions a second.
        share: of the step's least time.
    """

    operation: str
    times: float
    gflops: float
    share: float


@dataclass(frozen=True)
class Ceilings:
    """The least time of a step on this machine.

    Args:
        gflop: billions of multiplications and additions of a step.
        bandwidth: of memory, in GB a second.
        seconds: that the operations and the memory traffic of a step need alone.
        rates: of all operations, those with the largest share first.
        reading: GB a second when memory is read alone; None: a step need not.
    """

    gflop: float
    bandwidth: float
    seconds: float
    rates: tuple[Rate, ...]
    reading: float | None = None


@torch.no_grad()
def measure(work: Work, device: str = "cpu") -> Ceilings:
    """Measure all operations of a step, and memory, of a device."""
    with torch.device(device):
        return _measured(work)


def _measured(work: Work) -> Ceilings:
    bandwidth = memory_bandwidth()
    alone = {operation: min(map(alone_seconds, ways(operation))) for operation in work.times}
    seconds = {operation: work.times[operation] * least for operation, least in alone.items()}
    reading = reading_bandwidth() if work.read else None
    read = work.read / reading if reading else 0.0
    total = max(sum(seconds.values()), read) + work.bytes / bandwidth
    rates = [
        Rate(
            str(operation),
            work.times[operation],
            operation.flops / alone[operation] / 1e9,
            seconds[operation] / total,
        )
        for operation in sorted(seconds, key=lambda operation: -seconds[operation])
    ]
    found = None if reading is None else reading / 1e9
    return Ceilings(work.flops / 1e9, bandwidth / 1e9, total, tuple(rates), found)


def memory_bandwidth() -> float:
    """Return bytes a second, read and written, while one large array is added to another."""
    total, term = torch.zeros(_NUMBERS), torch.zeros(_NUMBERS)
    return 3 * total.nbytes / alone_seconds(lambda: total.add_(term))


def reading_bandwidth() -> float:
    """Return bytes a second while one large array is read, by the quickest way of several."""
    numbers = torch.zeros(_NUMBERS // 2048, 2048)
    row, wide = torch.zeros(1, 2048), numbers.flatten()
    ways: list[Callable[[], Tensor]] = [
        numbers.sum,
        partial(torch.dot, wide, wide),
        partial(linear, row, numbers),
    ]
    return numbers.nbytes / min(map(alone_seconds, ways))


def ways(operation: Operation) -> Iterator[Callable[[], Tensor]]:
    """Yield the ways in which an operation can be done."""
    if isinstance(operation, Convolution):
        yield from _convolutions(operation)
    elif operation.batch > 1:
        left = torch.randn(operation.batch, operation.rows, operation.inner)
        right = torch.randn(operation.batch, operation.inner, operation.columns)
        yield partial(torch.bmm, left, right)
    else:
        yield from _products(operation)


def alone_seconds(call: Callable[[], object]) -> float:
    """Return the seconds of one operation: a GPU does many in a row, as asking takes longer."""
    return shortest(call, times=IN_A_ROW if torch.cuda.is_initialized() else 1)


def shortest(call: Callable[[], object], runs: int = RUNS, times: int = 1) -> float:
    """Return the seconds of the shortest of several runs, after one call that is not counted.

    Args:
        times: calls of a run, whose mean counts.
    """
    call()
    seconds: list[float] = []
    while len(seconds) < min(runs, FEWEST_RUNS) or (len(seconds) < runs and sum(seconds) < ENOUGH):
        begun = now()
        for _ in range(times):
            call()
        seconds.append((now() - begun) / times)
    return min(seconds)


def _products(product: Product) -> Iterator[Callable[[], Tensor]]:
    left = torch.randn(product.rows, product.inner)
    right = torch.randn(product.inner, product.columns)
    weight = right.T.contiguous()
    yield partial(torch.mm, left, right)
    yield partial(functional.linear, left, weight)
    yield partial(linear, left, weight)


def _convolutions(convolution: Convolution) -> Iterator[Callable[[], Tensor]]:
    reach = convolution.kernel - convolution.stride
    height = convolution.height * convolution.stride + reach
    width = convolution.width * convolution.stride + reach
    given = torch.randn(convolution.batch, convolution.inputs, height, width)
    weight = torch.randn(
        convolution.outputs, convolution.inputs, convolution.kernel, convolution.kernel
    )
    for order in (torch.contiguous_format, torch.channels_last):
        picture = given.contiguous(memory_format=order)
        filters = weight.contiguous(memory_format=order)
        yield partial(functional.conv2d, picture, filters, stride=convolution.stride)
